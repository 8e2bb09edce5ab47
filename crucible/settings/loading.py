"""The settings, read once at the edge: flags, environment, ``crucible.toml``, defaults."""

from __future__ import annotations

import math
import os
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin, get_type_hints

import msgspec

from crucible.errors import SettingsError
from crucible.settings.checks import check
from crucible.settings.fields import SECRETS, Settings, env_name, masked_value

if TYPE_CHECKING:
    from collections.abc import Mapping


def load_settings(
    environ: Mapping[str, str] | None = None,
    *,
    flags: Mapping[str, object] | None = None,
    file: Path | None = None,
) -> Settings:
    """Read the settings once.

    Args:
        environ: the environment; the process's own by default.
        flags: command line values by field name; None values mean "not given".
        file: the configuration file; ``$CRUCIBLE_CONFIG``, else ``crucible.toml`` here.

    Raises:
        SettingsError: a value cannot be used, or several contradict each other.
    """
    env = os.environ if environ is None else environ
    named = file or Path(env.get("CRUCIBLE_CONFIG") or "crucible.toml")
    values = _from_file(named, must_exist=bool(file or env.get("CRUCIBLE_CONFIG")))
    for field in Settings.__struct_fields__:
        # An empty variable means "not set", as docker compose and systemd leave them.
        if text := env.get(env_name(field), "").strip():
            values[field] = text
    values.update({name: value for name, value in (flags or {}).items() if value is not None})
    hints = get_type_hints(Settings, include_extras=True)
    settings = Settings(
        **{name: _convert(name, value, hints[name]) for name, value in values.items()}
    )
    check(settings)
    return settings


def _from_file(path: Path, *, must_exist: bool) -> dict[str, Any]:
    if not path.exists():
        if must_exist:
            raise SettingsError("CRUCIBLE_CONFIG", f"{path} does not exist")
        return {}
    try:
        values = tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise SettingsError(path.name, str(error)) from error
    known = set(Settings.__struct_fields__)
    fields = {key.lower().removeprefix("crucible_"): value for key, value in values.items()}
    for key in fields.keys() - known:
        raise SettingsError(path.name, f"unknown setting {key!r}")
    return fields


def _convert(field: str, value: object, hint: Any) -> Any:
    if get_origin(hint) is tuple and isinstance(value, str):
        value = [item.strip() for item in value.split(",") if item.strip()]
    if hint is Path and isinstance(value, str | Path):
        return Path(value).expanduser()
    try:
        # Text from the environment may become a number or a bool; a TOML value has its type.
        converted = msgspec.convert(value, hint, strict=False)
    except msgspec.ValidationError as error:
        shown = "" if field in SECRETS else f"{masked_value(field, value)!r}: "
        raise SettingsError(env_name(field), f"{shown}{_sentence(error, hint)}") from None
    if isinstance(converted, float) and not math.isfinite(converted):
        raise SettingsError(env_name(field), f"{value!r}: must be a finite number")
    return converted


def _sentence(error: msgspec.ValidationError, hint: Any) -> str:
    bare = get_args(hint)[0] if get_origin(hint) is Annotated else hint
    if get_origin(bare) is Literal:
        choices = ", ".join(repr(choice) for choice in get_args(bare))
        return f"must be one of {choices}"
    sentence = str(error).partition(" - at `")[0]
    return sentence[:1].lower() + sentence[1:]

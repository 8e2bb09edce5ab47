"""The settings, read once at the edge: flags, environment, ``crucible.toml``, defaults."""

from __future__ import annotations

import difflib
import logging
import math
import os
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin, get_type_hints

import msgspec

from crucible.errors import SettingsError
from crucible.settings.checks import check
from crucible.settings.fields import OTHER_NAMES, SECRETS, Settings, env_name, masked_value

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

log = logging.getLogger(__name__)

#: The largest number of any setting: servers, engines and event loops take no more of what is made
#: of it, such as milliseconds or bytes. As seconds it is 68 years.
_LARGEST = (1 << 31) - 1
#: Similarity (0 to 1) from which an unknown variable is taken for a misspelt setting: a letter or
#: two wrong, a word cut short, an extra S.
_NEARLY = 0.85


def load_settings(
    environ: Mapping[str, str] | None = None,
    *,
    flags: Mapping[str, object] | None = None,
    file: Path | None = None,
) -> Settings:
    """Read and check the settings.

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
    values.update(_from_environment(env))
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
    fields: dict[str, Any] = {}
    for key, value in values.items():
        field = key.lower().removeprefix("crucible_")
        if field == "environments" and isinstance(value, dict):
            field = "own_environments"  # the list of those served has to be spelt in full then
        if field not in Settings.__struct_fields__:
            raise SettingsError(path.name, f"unknown setting {key!r}")
        if field in fields:
            raise SettingsError(path.name, f"sets {env_name(field)} twice, once as {key!r}")
        fields[field] = value
    return fields


def _from_environment(env: Mapping[str, str]) -> dict[str, str]:
    # An empty variable means "not set": docker compose and systemd leave them so.
    given = {name: text.strip() for name, text in env.items() if text.strip()}
    names = {env_name(field): field for field in Settings.__struct_fields__}
    given = _with_files(given, names)
    ours = {name for name in given if name.startswith("CRUCIBLE_")}
    for name in sorted(ours - names.keys() - OTHER_NAMES):
        _refuse_misspelt(name, names)
    return {field: given[name] for name, field in names.items() if name in given}


def _with_files(given: dict[str, str], names: Mapping[str, str]) -> dict[str, str]:
    """Settings whose value is in a file, which ``<NAME>_FILE`` names, as for secrets of containers.

    The whole file is the value, but for white space around it.
    """
    found = dict(given)
    for name in names:
        variable = f"{name}_FILE"
        if variable in names or variable not in given:
            continue
        if name in given:
            raise SettingsError(variable, f"{name} is set as well: unset one of them")
        path = found.pop(variable)
        try:
            value = Path(path).read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "is not text"
            raise SettingsError(variable, f"{path}: {reason}") from None
        if not value:
            raise SettingsError(variable, f"{path} is empty")
        found[name] = value
    return found


def _refuse_misspelt(name: str, names: Iterable[str]) -> None:
    """Refuse variables that look like a misspelt setting; only log other unknown ones.

    Those may belong to others: Kubernetes sets ``CRUCIBLE_SERVICE_HOST`` for a service that is
    called crucible.
    """
    spellings = {spelling: known for known in names for spelling in _spellings(known)}
    near = difflib.get_close_matches(name, spellings, n=1, cutoff=_NEARLY)
    if near:
        raise SettingsError(name, f"unknown setting; did you mean {spellings[near[0]]}?")
    log.warning("%s is not a setting of this version and is ignored", name)


def _spellings(name: str) -> set[str]:
    """A setting's variable, and for those without a prefix also the name with ``CRUCIBLE_``."""
    bare = name.removeprefix("CRUCIBLE_")
    return {name, f"CRUCIBLE_{bare}", f"CRUCIBLE_{bare.removeprefix('CELERY_')}"}


def _convert(field: str, value: object, hint: Any) -> Any:
    if get_origin(hint) is tuple and isinstance(value, str):
        value = [item.strip() for item in value.split(",") if item.strip()]
    if get_origin(hint) is dict and isinstance(value, str):
        try:
            value = msgspec.json.decode(value)
        except msgspec.DecodeError as error:
            raise SettingsError(env_name(field), f"is not JSON: {error}") from None
    if hint is Path and isinstance(value, str | Path):
        try:
            return Path(value).expanduser()
        except RuntimeError:
            raise SettingsError(
                env_name(field), f"{str(value)!r}: no such home directory"
            ) from None
    try:
        # Text from the environment may become a number or a bool; TOML values have a type already.
        converted = msgspec.convert(value, hint, strict=False)
    except msgspec.ValidationError as error:
        shown = "" if field in SECRETS else f"{masked_value(field, value)!r}: "
        raise SettingsError(env_name(field), f"{shown}{_sentence(error, hint)}") from None
    if isinstance(converted, float) and not math.isfinite(converted):
        raise SettingsError(env_name(field), f"{value!r}: must be a finite number")
    if isinstance(converted, int | float) and converted > _LARGEST:
        raise SettingsError(env_name(field), f"{value!r}: must be at most {_LARGEST}")
    return converted


def _sentence(error: msgspec.ValidationError, hint: Any) -> str:
    bare = get_args(hint)[0] if get_origin(hint) is Annotated else hint
    if get_origin(bare) is Literal:
        choices = ", ".join(repr(choice) for choice in get_args(bare))
        return f"must be one of {choices}"
    sentence = str(error).partition(" - at `")[0]
    return sentence[:1].lower() + sentence[1:]

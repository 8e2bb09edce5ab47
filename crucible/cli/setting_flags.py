"""Which flags set which settings, and the settings that result. Imports no command line."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin, get_type_hints

from msgspec import Meta

from crucible.cli.queries import check_queries
from crucible.settings import Settings, load_settings
from crucible.settings.fields import SECRETS, TABLES
from crucible.settings.sections import Section, sections

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Short names, and names of earlier versions.
ALIASES = {
    "celery_broker_url": "--queue-url",
    "celery_result_backend": "--result-url",
    "events": "-E",
    "executor_urls": "--executor-url",
    "sandbox_packages_file": "--packages",
}


def settings_of(flags: Mapping[str, object]) -> Settings:
    """The settings of a command.

    Args:
        flags: values by field name; None means "not given".

    Raises:
        SettingsError: a value cannot be used, or several contradict each other.
    """
    settings = load_settings(flags=flags)
    check_queries(settings)
    return settings


def fields_of(concerned: tuple[Section | str, ...]) -> list[str]:
    """The settings that have a flag, in the order of the table."""
    known = sections()
    unknown = {name for name in concerned if not isinstance(name, Section)} - known.keys()
    assert not unknown, f"no settings: {unknown}"
    return [
        field
        for field, section in known.items()
        if (field in concerned or section in concerned) and field not in SECRETS | TABLES
    ]


def flag_name(field: str) -> str:
    """The flag of a setting."""
    return f"--{field.replace('_', '-')}"


def names_of(field: str) -> list[str]:
    """Every name of its flag; that of a switch has the one that turns it off behind a slash."""
    name = flag_name(field)
    switch = kind_of(field)[0] is bool
    names = [f"{name}/--no-{name.removeprefix('--')}" if switch else name]
    return [*names, ALIASES[field]] if field in ALIASES else names


def kind_of(field: str) -> tuple[Any, float | None, float | None]:
    """The type of a flag's values, their minimum and their maximum."""
    hint = _hints()[field]
    if get_origin(hint) is Annotated:
        kind, *marks = get_args(hint)
        bounds = next(mark for mark in marks if isinstance(mark, Meta))
        return kind, bounds.ge, bounds.le
    if get_origin(hint) is tuple:
        return list[str], None, None
    assert hint in (bool, str, Path) or get_origin(hint) is Literal, f"no flag for {hint}"
    return hint, None, None


@functools.cache
def _hints() -> dict[str, Any]:
    return get_type_hints(Settings, include_extras=True)

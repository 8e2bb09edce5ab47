"""The plain command line of a service: flags of settings and a few options, each with a value."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crucible.cli.setting_flags import fields_of, kind_of, names_of, settings_of
from crucible.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from crucible.cli.services.service import Service
    from crucible.settings import Settings


def read(service: Service, arguments: list[str]) -> tuple[Settings, dict[str, Any]] | None:
    """What a service is started with; None if the arguments are not plain, or wrong."""
    switches, valued = _flags(service)
    flags: dict[str, Any] = {}
    options: dict[str, Any] = {}
    rest = iter(arguments)
    for argument in rest:
        if argument in switches:
            field, on = switches[argument]
            flags[field] = on
            continue
        name, value = _value(argument, rest)
        if not value or name not in valued:
            return None
        if valued[name] in service.options:
            options[valued[name]] = value
        else:
            _keep(valued[name], value, flags)
    try:
        own = {name: service.options[name](value) for name, value in options.items()}
        return settings_of(flags), own
    except (SettingsError, ValueError):
        return None


def _flags(service: Service) -> tuple[dict[str, tuple[str, bool]], dict[str, str]]:
    """Switches with what each sets; and by flag what those with a value are called."""
    switches: dict[str, tuple[str, bool]] = {}
    valued = {f"--{option}": option for option in service.options}
    for field in fields_of(service.settings):
        on, *aliases = names_of(field)
        if kind_of(field)[0] is bool:
            on, off = on.split("/")
            switches[off] = field, False
            switches.update(dict.fromkeys((on, *aliases), (field, True)))
        else:
            valued.update(dict.fromkeys((on, *aliases), field))
    return switches, valued


def _value(argument: str, rest: Iterator[str]) -> tuple[str, str]:
    """A flag and its value; no value where that is missing, or looks like a flag."""
    name, given, value = argument.partition("=")
    if not given:
        value = next(rest, "")
    return name, "" if value.startswith("-") else value


def _keep(field: str, value: str, kept: dict[str, Any]) -> None:
    """The last one counts; several of a list are joined, as an environment variable has them."""
    several = field in kept and kind_of(field)[0] == list[str]
    kept[field] = f"{kept[field]},{value}" if several else value

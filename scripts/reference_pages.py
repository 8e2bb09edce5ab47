"""Writes ``docs/cli.md``, ``docs/settings.md`` and ``docs/event-fields.md`` from the code.

``python scripts/reference_pages.py`` after a change of a command, a setting or an event; a unit
test compares the pages.
"""

from __future__ import annotations

import re
import types
import typing
from pathlib import Path
from typing import Any, get_type_hints

import msgspec
import typer

from crucible.cli.main import app
from crucible.events.event import TERMINAL, Event, Transition
from crucible.settings.fields import SECRETS, TABLES, Settings, env_name

DOCS = Path(__file__).resolve().parents[1] / "docs"

_CLI = """# Command line

Every command, as `crucible COMMAND --help` has it. A setting is a flag of the commands it concerns;
these are listed by name, and [settings](settings.md) says what they mean. Exit codes: 0 success, 1
failure (one line on standard error says why), 2 wrong usage.

This page is made by `scripts/reference_pages.py`.
"""
_SETTINGS = """# Settings

A setting is a flag of the commands it concerns (`--queue-limit`), else an environment variable
(`CRUCIBLE_QUEUE_LIMIT`), else a line of `crucible.toml` (`queue_limit = 1000`): see
[reference](reference.md#settings). `crucible settings` prints what is in force.

This page is made by `scripts/reference_pages.py`.
"""
_EVENTS = """# Fields of events

One transition of an evaluation on the [event bus](events.md): a msgpack array of these in this
order. Readers ignore entries of other versions of the format, and elements behind those they know.

This page is made by `scripts/reference_pages.py`.
"""


def described(subject: type) -> dict[str, str]:
    """What the docstring of a class says of each of its attributes."""
    text = (subject.__doc__ or "").partition("Attributes:\n")[2]
    found = re.findall(r"^        (\w+): (.*(?:\n {12}.*)*)", text, re.MULTILINE)
    return {name: " ".join(words.split()).replace("``", "`") for name, words in found}


def type_name(kind: Any) -> str:
    """A type as a reader of the page knows it."""
    if typing.get_origin(kind) is typing.Annotated:
        bounds = [meta for meta in kind.__metadata__ if isinstance(meta, msgspec.Meta)]
        return " ".join([type_name(kind.__origin__), *map(_bounds, bounds)]).strip()
    if typing.get_origin(kind) is typing.Literal:
        return ", ".join(f"`{value}`" if value else "empty" for value in typing.get_args(kind))
    if typing.get_origin(kind) is tuple:
        return f"list of {type_name(typing.get_args(kind)[0])}"
    if typing.get_origin(kind) is dict:
        return "table"
    if isinstance(kind, types.UnionType):
        return ", ".join(type_name(one) for one in typing.get_args(kind))
    return {str: "text", Path: "path", type(None): "nil"}.get(kind, kind.__name__)


def _bounds(meta: msgspec.Meta) -> str:
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    return ", ".join(
        f"{sign} {getattr(meta, name):g}"
        for name, sign in signs.items()
        if getattr(meta, name) is not None
    )


def cell(text: str) -> str:
    """Text in a cell of a table; outside of code, `<` would begin HTML."""
    return text.replace("|", "\\|").replace("<", "&lt;") or " "


# ---- Command line ----------------------------------------------------------------------------


def cli_page() -> str:
    """The page of commands."""
    return _CLI + "".join(_command(name, one) for name, one in _commands())


def _commands() -> list[tuple[str, Any]]:
    """Every command that does something, by its whole name, in the order of ``--help``."""
    found: list[tuple[str, Any]] = []

    def walk(command: Any, path: str) -> None:
        for name, one in getattr(command, "commands", {}).items():
            whole = f"{path} {name}"
            if not one.hidden and one.help:
                found.append((whole, one))
            walk(one, whole)

    walk(typer.main.get_command(app), "crucible")
    return found


def _command(name: str, command: Any) -> str:
    shown = [one for one in command.params if not one.hidden]
    own = [one for one in shown if one.name not in Settings.__struct_fields__]
    settings = [one.opts[0] for one in shown if one.name in Settings.__struct_fields__]
    text = "\n\n".join(" ".join(part.split()) for part in command.help.split("\n\n"))
    lines = ["", f"## {name}", "", text.replace("<", "&lt;"), ""]
    rows = [_parameter(one) for one in own if one.name != "help"]
    if rows:
        lines += ["| parameter | what |", "|---|---|", *rows, ""]
    if settings:
        lines += [f"Settings: {', '.join(f'`{flag}`' for flag in settings)}.", ""]
    return "\n".join(lines)


def _parameter(one: Any) -> str:
    if type(one).__name__ == "TyperArgument":
        shown = f"`{one.name.upper()}`"
    else:
        shown = ", ".join(f"`{flag}`" for flag in [*one.opts, *one.secondary_opts])
    required = " Required." if one.required and not shown.isupper() else ""
    return f"| {shown} | {cell((one.help or '') + required)} |"


# ---- Settings --------------------------------------------------------------------------------


def settings_page() -> str:
    """The page of settings."""
    hints = get_type_hints(Settings, include_extras=True)
    texts = described(Settings)
    lines = ["", "| variable | values | default | what |", "|---|---|---|---|"]
    for field in msgspec.structs.fields(Settings):
        name = field.name
        table = f" Table `[{name.removeprefix('own_')}.NAME]` of the file." * (name in TABLES)
        secret = " Has no flag." * (name in SECRETS)
        lines.append(
            f"| `{env_name(name)}` | {cell(type_name(hints[name]))} | {_default(field)} "
            f"| {cell(texts[name] + table + secret)} |"
        )
    return _SETTINGS + "\n".join(lines) + "\n"


def _default(field: msgspec.structs.FieldInfo) -> str:
    if field.name == "data_dir":
        return "`$XDG_DATA_HOME/crucible`"
    value = field.default
    if value is msgspec.NODEFAULT:
        value = field.default_factory()
    if isinstance(value, bool):
        value = int(value)
    if isinstance(value, tuple):
        value = ",".join(value)
    return f"`{value}`" if value not in ("", {}) else " "


# ---- Events ----------------------------------------------------------------------------------


def events_page() -> str:
    """The page of events."""
    hints, texts = get_type_hints(Event), described(Event)
    lines = ["", "| # | field | type | what |", "|---|---|---|---|"]
    lines += [
        f"| {number} | `{name}` | {_event_type(hints[name])} | {cell(texts[name])} |"
        for number, name in enumerate(Event.__struct_fields__)
    ]
    ends = ", ".join(f"`{one}`" for one in Transition if one in TERMINAL)
    others = ", ".join(f"`{one}`" for one in Transition if one not in TERMINAL)
    lines += ["", f"Transitions that others follow: {others}. Ends: {ends}.", ""]
    return _EVENTS + "\n".join(lines)


def _event_type(kind: Any) -> str:
    return "text" if kind is Transition else type_name(kind)


PAGES = {"cli.md": cli_page, "settings.md": settings_page, "event-fields.md": events_page}

if __name__ == "__main__":
    for page_name, made in PAGES.items():
        (DOCS / page_name).write_text(made())

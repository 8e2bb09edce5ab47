"""Command line flags generated from the fields of ``Settings``: a new setting needs no flag code.

``@with_settings(Section.LISTENING, "log_level")`` gives a command the flags of a section and of
one more setting, and passes it the ``Settings`` that result from flags and environment. A flag that
was not given is None among the parameters of the command's context. Tokens have no flag, since
every user of the machine can read command lines, and tables of the settings file have none.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import typer
from msgspec import Meta

from crucible.cli.queries import check_queries
from crucible.settings import Settings, load_settings
from crucible.settings.fields import SECRETS, TABLES
from crucible.settings.sections import Section, descriptions, sections

#: Short names, and names of earlier versions.
ALIASES = {
    "celery_broker_url": "--queue-url",
    "celery_result_backend": "--result-url",
    "events": "-E",
    "executor_urls": "--executor-url",
    "sandbox_packages_file": "--packages",
}

Command = Callable[..., None]


def with_settings(*concerned: Section | str) -> Callable[[Command], Command]:
    """Give a command, whose first parameter is ``settings``, the flags of the settings it reads.

    Args:
        concerned: sections, or names of single settings.
    """
    fields = fields_of(concerned)

    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def with_flags(**given: Any) -> None:
            flags = {field: _value(given.pop(field)) for field in fields}
            settings = load_settings(flags=flags)
            check_queries(settings)
            command(settings, **given)

        _, *own = inspect.signature(command, eval_str=True).parameters.values()
        options = [_option(field) for field in fields]
        # Typer reads the signature and the annotations.
        with_flags.__signature__ = inspect.Signature([*own, *options])  # type: ignore[attr-defined]  # mypy has no such attribute of functions
        with_flags.__annotations__ = {}
        return with_flags

    return decorate


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


def _value(given: Any) -> Any:
    """The value as an environment variable has it; several values are joined with commas."""
    return ",".join(given) if isinstance(given, list) else given


def _option(field: str) -> inspect.Parameter:
    kind, least, most = _kind(_hints()[field])
    name = flag_name(field)
    names = [f"{name}/--no-{name.removeprefix('--')}" if kind is bool else name]
    if field in ALIASES:
        names.append(ALIASES[field])
    option = typer.Option(
        *names,
        help=_sentence(descriptions().get(field, "")),
        rich_help_panel=sections()[field],
        show_default=False,
        metavar="A,B" if kind == list[str] else None,
        min=least,
        max=most,
    )
    return inspect.Parameter(
        field,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[kind | None, option],
    )


def _sentence(text: str) -> str:
    """A field's description as help text: capitalized unless it starts with code."""
    plain = text.replace("``", "")
    return plain if text.startswith("``") else plain[:1].upper() + plain[1:]


def _kind(hint: Any) -> tuple[Any, float | None, float | None]:
    """The type of a flag's values, their minimum and their maximum."""
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

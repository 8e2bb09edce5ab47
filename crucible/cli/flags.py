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
from typing import Annotated, Any

import typer

from crucible.cli.setting_flags import fields_of, kind_of, names_of, settings_of
from crucible.settings.sections import Section, descriptions, sections

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
            command(settings_of(flags), **given)

        _, *own = inspect.signature(command, eval_str=True).parameters.values()
        options = [_option(field) for field in fields]
        # Typer reads the signature and the annotations.
        with_flags.__signature__ = inspect.Signature([*own, *options])  # type: ignore[attr-defined]  # mypy has no such attribute of functions
        with_flags.__annotations__ = {}
        return with_flags

    return decorate


def _value(given: Any) -> Any:
    """The value as an environment variable has it; several values are joined with commas."""
    return ",".join(given) if isinstance(given, list) else given


def _option(field: str) -> inspect.Parameter:
    kind, least, most = kind_of(field)
    option = typer.Option(
        *names_of(field),
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

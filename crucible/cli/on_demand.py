"""Subcommands whose modules are imported when they are asked for.

Every process of the service starts through ``crucible``, and importing all of its commands takes
three times as long as importing one.
"""

from __future__ import annotations

from collections import UserDict
from importlib import import_module
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperGroup

if TYPE_CHECKING:
    from collections.abc import Mapping


class CommandsOnDemand(TyperGroup):
    """A group that imports a subcommand's module when the subcommand is run or described.

    A class of its own derives from it and names the subcommands in ``modules``.

    Attributes:
        modules: by name of the subcommand, in the order of the help page, its module and the name
            there of a function (a command) or of a ``typer.Typer`` (a group of commands), as
            ``module:name``.
    """

    modules: Mapping[str, str] = {}

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = _Subcommands(self.modules)

    def list_commands(self, ctx: Any) -> list[str]:
        """The names of the subcommands; imports nothing."""
        return list(self.modules)


class _Subcommands(UserDict[str, Any]):
    """Places by name, each replaced by what is there when it is asked for."""

    def __getitem__(self, name: str) -> Any:
        found = super().__getitem__(name)
        if isinstance(found, str):
            found = self[name] = _load(name, found)
        return found


def _load(name: str, place: str) -> Any:
    module, attribute = place.split(":")
    found = getattr(import_module(module), attribute)
    group = typer.Typer()
    if isinstance(found, typer.Typer):
        group.add_typer(found, name=name)
    else:
        group.command(name)(found)
    return typer.main.get_group(group).commands[name]

"""``crucible settings``: what is in force."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from crucible.cli.options import Json
from crucible.cli.printing import print_json
from crucible.settings import Settings, env_name, load_settings


def command(as_json: Json = False) -> None:
    """Print the effective settings, secrets masked."""
    effective = load_settings()
    if as_json:
        print_json(effective.masked())
        return
    table = Table("setting", "value", "", box=None, header_style="bold")
    defaults = Settings().masked()
    for name in Settings.__struct_fields__:
        key = env_name(name)
        value = effective.masked()[key]
        table.add_row(key, str(value), "" if value == defaults[key] else "set")
    Console().print(table)

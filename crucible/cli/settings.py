"""``crucible settings``: the effective settings."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from crucible.cli.flags import with_settings
from crucible.cli.options import Json
from crucible.cli.printing import print_json
from crucible.settings import Settings, env_name
from crucible.settings.sections import Section


@with_settings(*Section)
def command(settings: Settings, as_json: Json = False) -> None:
    """Print the effective settings, secrets masked."""
    if as_json:
        print_json(settings.masked())
        return
    table = Table("setting", "value", "", box=None, header_style="bold")
    defaults = Settings().masked()
    for name in Settings.__struct_fields__:
        key = env_name(name)
        value = settings.masked()[key]
        table.add_row(key, str(value), "" if value == defaults[key] else "set")
    Console().print(table)

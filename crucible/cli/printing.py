"""How commands print data."""

from __future__ import annotations

from typing import Any

import msgspec
import typer


def print_json(value: Any) -> None:
    """Print plain data or a struct as indented JSON."""
    typer.echo(msgspec.json.format(msgspec.json.encode(value)).decode())

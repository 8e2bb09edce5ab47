"""Where ``crucible`` starts: services directly, every other command through the command line.

The command-line library and the modules of all commands stay in memory for as long as a process
runs: 17 MiB that a service has no use for. A plain command line of a service is therefore read
here. What is not plain (help, a mistake, a way of writing that only the library knows) is left to
the library, so there is one place that explains and refuses.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from crucible.cli.exits import exit_codes

if TYPE_CHECKING:
    from crucible.cli.services.service import Service


def main() -> None:
    """Entry point of the console script."""
    with exit_codes():
        if not _served(sys.argv[1:]):
            from crucible.cli.main import app

            app()


def _served(arguments: list[str]) -> bool:
    """Run the service that the arguments start; False if they need the whole command line."""
    service = _service(arguments[0]) if arguments else None
    if service is None:
        return False
    from crucible.cli.services.flags import read

    given = read(service, arguments[1:])
    if given is None:
        return False
    settings, options = given
    service.run(settings, **options)
    return True


def _service(name: str) -> Service | None:
    if name == "api":
        from crucible.cli.services.api import SERVICE
    elif name == "worker":
        from crucible.cli.services.worker import SERVICE
    elif name == "historian":
        from crucible.cli.services.historian import SERVICE
    else:
        return None
    return SERVICE

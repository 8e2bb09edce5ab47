"""The ``crucible`` command: its subcommands."""

from __future__ import annotations

from types import MappingProxyType

import typer

import crucible
from crucible.cli.on_demand import CommandsOnDemand


class _Commands(CommandsOnDemand):
    modules = MappingProxyType(
        {
            "up": "crucible.cli.up:command",
            "api": "crucible.cli.api:command",
            "worker": "crucible.cli.worker:command",
            "executor": "crucible.cli.executor:command",
            "submit": "crucible.cli.submit:command",
            "assess": "crucible.cli.assess:command",
            "status": "crucible.cli.client:status",
            "result": "crucible.cli.client:result",
            "cancel": "crucible.cli.client:cancel",
            "list": "crucible.cli.list:command",
            "tail": "crucible.cli.tail:command",
            "queues": "crucible.cli.queues:queues",
            "workers": "crucible.cli.workers:command",
            "purge": "crucible.cli.queues:purge",
            "compare": "crucible.cli.compare:command",
            "doctor": "crucible.cli.doctor:command",
            "settings": "crucible.cli.settings:command",
            "bench": "crucible.cli.bench:command",
            "historian": "crucible.cli.historian:app",
            "dlq": "crucible.cli.dlq:app",
            "keys": "crucible.cli.keys:app",
            "webhooks": "crucible.cli.webhooks:app",
            "sessions": "crucible.cli.sessions:app",
            "legacy": "crucible.cli.legacy:app",
            "migration": "crucible.cli.migration:app",
            "environments": "crucible.cli.environments:app",
            "images": "crucible.cli.images:app",
        }
    )


app = typer.Typer(
    name="crucible",
    cls=_Commands,
    help="Runs untrusted code: HTTP in, throw-away containers, Celery's wire on Redis between.",
    epilog="A setting is a flag of the commands it concerns (--queue-limit), else an environment "
    "variable (CRUCIBLE_QUEUE_LIMIT), else a line of crucible.toml (queue_limit = 1000). "
    "crucible settings prints what is in force; tokens have no flag.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"crucible {crucible.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version."
    ),
) -> None:
    pass

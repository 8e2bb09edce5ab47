"""The ``crucible`` command: its subcommands."""

from __future__ import annotations

import typer

import crucible
from crucible.cli import (
    api,
    assess,
    bench,
    client,
    compare,
    dlq,
    doctor,
    environments,
    executor,
    historian,
    images,
    keys,
    legacy,
    migration,
    queues,
    sessions,
    settings,
    submit,
    tail,
    up,
    webhooks,
    worker,
    workers,
)
from crucible.cli import list as list_
from crucible.cli.exits import exit_codes

app = typer.Typer(
    name="crucible",
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


app.command("up")(up.command)
app.command("api")(api.command)
app.command("worker")(worker.command)
app.command("executor")(executor.command)
app.add_typer(historian.app, name="historian")
app.command("submit")(submit.command)
app.command("assess")(assess.command)
app.command("status")(client.status)
app.command("result")(client.result)
app.command("cancel")(client.cancel)
app.command("list")(list_.command)
app.command("tail")(tail.command)
app.command("queues")(queues.queues)
app.command("workers")(workers.command)
app.command("purge")(queues.purge)
app.add_typer(dlq.app, name="dlq")
app.add_typer(keys.app, name="keys")
app.add_typer(webhooks.app, name="webhooks")
app.add_typer(sessions.app, name="sessions")
app.add_typer(legacy.app, name="legacy")
app.add_typer(migration.app, name="migration")
app.command("compare")(compare.command)
app.command("doctor")(doctor.command)
app.command("settings")(settings.command)
app.command("bench")(bench.command)
app.add_typer(environments.app, name="environments")
app.add_typer(images.app, name="images")


def main() -> None:
    """The whole command line."""
    with exit_codes():
        app()


if __name__ == "__main__":
    main()

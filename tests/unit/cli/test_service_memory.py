"""A service that is started carries neither the command line nor what is off."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from crucible.cli.services import api, historian, worker
from crucible.cli.services.flags import read
from crucible.settings import Settings

#: The command-line library with all that it loads, and the modules of other commands.
COMMAND_LINE = {"typer", "rich", "pydantic", "crucible.cli.main", "crucible.cli.assess"}


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    """Neither the environment nor a file decides anything."""
    for name in ("CELERY_BROKER_URL", "CRUCIBLE_CONFIG", "CRUCIBLE_HISTORY_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(str(tmp_path))


def loaded_by(service: str, start: str, *arguments: str) -> set[str]:
    """The modules in memory of a service where it would open its connections."""
    program = (
        "import json, sys\n"
        "from crucible.cli import running\n"
        "running.run = lambda service, settings: (service.close(),"
        " print(json.dumps(sorted(sys.modules))))\n"
        f"import {start}\n"
        "from crucible.cli.entry import main\n"
        "main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, service, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return set(json.loads(done.stdout))


@pytest.mark.parametrize(
    ("service", "start", "arguments"),
    [
        ("api", "crucible.api.server", ["--port", "0", "--log-level=warning"]),
        ("worker", "crucible.worker.worker", ["-E", "--queues", "a", "--name", "w@h"]),
        ("historian", "crucible.cli.services", ["--history-url", "sqlite:///x"]),
    ],
)
def test_a_running_service_has_no_command_line(
    service: str, start: str, arguments: list[str]
) -> None:
    """It would be a quarter of its memory."""
    assert not loaded_by(service, start, *arguments) & COMMAND_LINE


def test_flags_mean_what_they_mean_to_the_command_line() -> None:
    """Switches, other names, several values and the last one of several."""
    given = read(api.SERVICE, ["--port", "1", "--port=2", "--queue-url", "redis://h:1/2"])
    assert given is not None
    assert (given[0].port, given[0].celery_broker_url) == (2, "redis://h:1/2")
    typed = ["-E", "--queues", "a", "--queues", "b,c", "--autoscale", "1,3", "--no-result-extended"]
    given = read(worker.SERVICE, typed)
    assert given is not None
    settings, own = given
    assert (settings.events, settings.queues, own) == (True, ("a", "b", "c"), {"autoscale": (1, 3)})
    assert not settings.result_extended
    assert read(historian.SERVICE, []) == (Settings(), {})


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--port"],
        ["--port", "many"],
        ["--port", "--log-level"],
        ["--queue-limit="],
        ["--no-such-flag", "1"],
        ["8000"],
        ["--celery-percentage", "0.5"],
    ],
)
def test_what_is_not_plain_is_left_to_the_command_line(arguments: list[str]) -> None:
    """It explains, and refuses."""
    assert read(api.SERVICE, arguments) is None


def test_a_mistake_is_refused_as_by_other_commands() -> None:
    """With the usage, and exit code 2."""
    done = subprocess.run(
        [sys.executable, "-m", "crucible", "worker", "--autoscale", "3,1"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "MAX must be at least MIN" in done.stderr

"""The whole service in containers, by the commands of docs/deployment.md."""

from __future__ import annotations

import json
import os
import subprocess
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from crucible.embedded.server import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = ROOT / ".cache" / "compose" / "docker-compose"
FILES = ("-f", "compose.yaml", "-f", "compose.offline.yaml")
#: Seconds for building images, and for what starts; only a fault uses them up.
BUILD_S, START_S = 900.0, 300.0


class Deployment:
    """A project of Compose with names, ports and images of its own."""

    def __init__(self) -> None:
        self.port = free_port()
        self._environment = {
            **os.environ,
            "TAG": "test",
            "COMPOSE_PROJECT_NAME": f"crucible-test-{os.getpid()}",
            "API_ADDRESS": f"127.0.0.1:{self.port}",
            "DOCKER_GID": str(Path("/var/run/docker.sock").stat().st_gid),
        }
        self.key = ""

    def run(self, *command: str | Path, timeout_s: float = START_S) -> str:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def compose(self, *arguments: str) -> str:
        return self.run(COMPOSE, *FILES, "--profile", "stock", *arguments)

    def ask(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=120) as answer:
            found: dict[str, Any] = json.load(answer)
        return found


@pytest.fixture(scope="module")
def deployment() -> Iterator[Deployment]:
    """Images of this checkout, secrets, a key, and everything but the stock worker started."""
    here = Deployment()
    here.run("deploy/build", timeout_s=BUILD_S)
    here.run("deploy/make-secrets")
    try:
        made = here.compose("run", "--rm", "api", "keys", "create", "test", "--json")
        here.key = json.loads(made)["key"]
        here.compose("up", "-d", "--wait", "--scale", "stock-worker=0", "--scale", "worker=1")
        yield here
    finally:
        here.compose("down", "--volumes", "--timeout", "5")


@pytest.mark.timeout(1500)
@pytest.mark.parametrize("isolation", ["container", "nested"])
def test_a_program_runs_by_the_async_worker(deployment: Deployment, isolation: str) -> None:
    """The executor, in a container of its own, starts the program's beside it."""
    asked = {"code": "print(6 * 7)", "isolation": isolation}
    ended = deployment.ask("/api/eval?wait=60", asked)
    assert (ended["output"], ended["verdict"]) == ("42\n", "ok")
    assert ended["usage"]["memory_peak_kb"] > 0
    assert ended["worker"].startswith("crucible")


@pytest.mark.timeout(600)
def test_a_program_runs_by_the_stock_worker_alone(deployment: Deployment) -> None:
    """With the async ones scaled to none; nothing submitted between is lost."""
    deployment.compose("up", "-d", "--scale", "stock-worker=0", "--scale", "worker=0")
    between = deployment.ask("/api/eval", {"code": "print('kept')"})
    deployment.compose("up", "-d", "--wait", "--scale", "stock-worker=1", "--scale", "worker=0")
    ended = deployment.ask(f"/api/eval/{between['eval_id']}?wait=60")
    assert (ended["output"], ended["verdict"]) == ("kept\n", "ok")
    assert ended["worker"].startswith("celery@")

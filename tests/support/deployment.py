"""The whole service in containers of Compose, for tests."""

from __future__ import annotations

import json
import os
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from crucible.embedded.server import free_port

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = ROOT / ".cache" / "compose" / "docker-compose"
#: Those of this machine's own Debian packages too: there may be a registry, which is not asked.
TARGETS = "api worker executor historian stock server postgres prometheus alertmanager"
#: Seconds for building images, and for everything else; only a fault uses them up.
BUILD_S, WAIT_S = 900.0, 300.0
#: Seconds until what a killed stock worker held is handed out again.
VISIBILITY_TIMEOUT_S = 20
#: The images look after themselves every 20 s; the start waits for the first look, which may take
#: long on a busy machine.
CHECK = {"interval": "10s", "timeout": "60s", "retries": 30}
CHECKED = ("api", "worker", "executor", "historian", "stock-worker")


class Deployment:
    """A project of Compose with names, ports, images and a key of its own.

    Args:
        directory: for the file with what differs from ``compose.offline.yaml``.
    """

    def __init__(self, directory: Path) -> None:
        ports = {name: free_port() for name in ("API", "FLOWER", "PROMETHEUS")}
        self._environment = {
            **os.environ,
            **{f"{name}_ADDRESS": f"127.0.0.1:{port}" for name, port in ports.items()},
            "TAG": "test",
            "TARGETS": TARGETS,
            "COMPOSE_PROJECT_NAME": f"crucible-test-{os.getpid()}",
            "DOCKER_GID": str(Path("/var/run/docker.sock").stat().st_gid),
            "VISIBILITY_TIMEOUT_S": str(VISIBILITY_TIMEOUT_S),
        }
        self.urls = {name.lower(): f"http://127.0.0.1:{port}" for name, port in ports.items()}
        self.key = ""
        self._metrics_key = directory / "metrics_key"
        self._own = directory / "compose.test.yaml"
        self._own.write_text(
            yaml.safe_dump(
                {
                    "services": {name: {"healthcheck": dict(CHECK)} for name in CHECKED},
                    "secrets": {"metrics_key": {"file": str(self._metrics_key)}},
                }
            )
        )

    def build(self) -> None:
        """Images of this checkout, and the secrets."""
        self.run("deploy/build", timeout_s=BUILD_S)
        self.run("deploy/make-secrets")

    def make_keys(self) -> None:
        """One for the test, and Prometheus' own."""
        made = self.compose("run", "--rm", "api", "keys", "create", "test", "--json")
        self.key = json.loads(made)["key"]
        made = self.compose(
            *("run", "--rm", "api", "keys", "create", "prometheus", "--scopes", "admin", "--json")
        )
        self._metrics_key.write_text(json.loads(made)["key"])
        self._metrics_key.chmod(0o444)

    def run(self, *command: str | Path, timeout_s: float = WAIT_S) -> str:
        """What a command prints; it has to succeed."""
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
        """What a command of Compose prints, given compose.yaml and the file for no registry."""
        files = ("compose.yaml", "compose.offline.yaml", str(self._own))
        flags = [flag for file in files for flag in ("-f", file)]
        return self.run(COMPOSE, *flags, "--profile", "*", *arguments)

    def ask(self, path: str, body: dict[str, Any] | None = None, *, of: str = "api") -> Any:
        """The JSON that a service answers.

        Raises:
            OSError: it is away, or the answer is an error.
        """
        request = urllib.request.Request(
            f"{self.urls[of]}{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.load(answer)

    def kill(self, service: str) -> None:
        """SIGKILL for the first process of a container, which starts again by its policy.

        Not by ``docker kill``, which the engine takes for the wish to have it stopped.
        """
        container = self.compose("ps", "-q", service).strip()
        before = self._state(container)
        program = f"import os; os.kill({before['State']['Pid']}, 9)"
        self.run(
            *("docker", "run", "--rm", "--pid", "host", "--network", "none", "--user", "0"),
            *("--entrypoint", "python3", "crucible-server:test", "-ISc", program),
        )

        def again() -> bool:
            now = self._state(container)
            restarted = now["RestartCount"] > before["RestartCount"]
            return bool(restarted and now["State"]["Running"])

        eventually(again)

    def restarts(self) -> dict[str, int]:
        """How often the container of each service was started again; all of them run."""
        states = [self._state(one) for one in self.compose("ps", "-q").split()]
        assert all(one["State"]["Running"] for one in states)
        label = "com.docker.compose.service"
        return {one["Config"]["Labels"][label]: one["RestartCount"] for one in states}

    def _state(self, container: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.run("docker", "inspect", container))[0]
        return found


def eventually(
    condition: Callable[[], bool], timeout_s: float = WAIT_S, *, what: object = None
) -> None:
    """Look until something is so; a service that is away counts as not yet.

    Args:
        condition: looks.
        timeout_s: only a fault uses it up.
        what: is shown if it does.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            if condition():
                return
        except OSError:
            pass
        assert time.monotonic() < deadline, f"not so in time: {what or condition}"
        time.sleep(0.3)

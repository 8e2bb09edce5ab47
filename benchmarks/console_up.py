"""An installation with something to see in it, and a browser, for what looks at the console."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from playwright.sync_api import sync_playwright

from crucible.embedded.lifeline import end_with_parent
from crucible.embedded.server import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser

START_S = 120.0
_PLAIN = {name: value for name, value in os.environ.items() if not name.startswith("CRUCIBLE_")}
#: Programs of every verdict that is quickly reached, with what comes with them.
PROGRAMS: tuple[dict[str, Any], ...] = (
    {"code": "print(sum(n * n for n in range(1000)))"},
    {"code": "import sys\nprint('half way')\nsys.exit(3)"},
    {"code": "def mean(values):\n    return sum(values) / len(values)\n\nprint(mean([]))"},
    {"code": "while True:\n    pass", "limits": {"wall_time_s": 1}},
    {"code": "rows = ['x' * 1000 for _ in range(10**7)]", "limits": {"memory_mb": 64}},
    {"code": "print('x' * 3_000_000)"},
    {"code": "int main(void) { return answer; }", "language": "c"},
    {"code": "echo $((6 * 7))", "language": "bash", "priority": 8},
    {"code": "console.log([1, 2, 3].map(n => n * n))", "language": "javascript", "priority": 1},
    {"code": "print('in a lane')", "isolation": "nested"},
)
PRIMES = """\
def primes(limit):
    sieve = bytearray([1]) * (limit + 1)
    for n in range(2, int(limit**0.5) + 1):
        if sieve[n]:
            sieve[n * n :: n] = bytes(len(sieve[n * n :: n]))
    return [n for n in range(2, limit + 1) if sieve[n]]


for prime in primes(int(input())):
    print(prime)
"""


class Api:
    """Requests to an installation.

    Attributes:
        url: of its api.
        queue_url: of its queue server, once it is ready.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.queue_url = ""

    def send(self, method: str, path: str, body: object = None) -> Any:
        """The JSON of an answer; raises OSError."""
        data = None if body is None else json.dumps(body).encode()
        fields = {"Content-Type": "application/json"}
        request = urllib.request.Request(self.url + path, data, fields, method=method)
        with urllib.request.urlopen(request, timeout=90) as answer:
            return json.load(answer)

    def run(self, **body: Any) -> Any:
        """Submit a program and wait for its end."""
        return self.send("POST", "/api/eval?wait=60", body)


@contextmanager
def installation(*, legacy: bool = False) -> Iterator[Api]:
    """``crucible up`` on data of its own, with a legacy queue beside it where asked for."""
    with ExitStack() as stack:
        data = stack.enter_context(tempfile.TemporaryDirectory(prefix="crucible-console-"))
        environment = dict(_PLAIN)
        if legacy:
            old = free_port()
            environment |= {
                "QUEUE_SERVICE_URL": f"http://127.0.0.1:{old}",
                "CELERY_PERCENTAGE": "0.35",
            }
            stack.enter_context(_command(["legacy", "queue", "--port", str(old)], environment))
            stack.enter_context(_command(["legacy", "worker"], environment))
        port = free_port()
        up = ["up", "--port", str(port), "--data-dir", str(Path(data) / "up")]
        log = Path(data) / "log"
        stack.enter_context(_command(up, environment, log))
        api = Api(f"http://127.0.0.1:{port}")
        _await_ready(api)
        api.queue_url = _queue_url(log)
        yield api


@contextmanager
def _command(
    arguments: list[str], environment: dict[str, str], log: Path = Path(os.devnull)
) -> Iterator[None]:
    command = [sys.executable, "-u", "-m", "crucible", *arguments]
    with (
        log.open("wb") as out,
        subprocess.Popen(
            command,
            env=environment,
            stdout=out,
            stderr=out,
            preexec_fn=end_with_parent,  # noqa: PLW1509 - no other threads
        ) as process,
    ):
        try:
            yield
        finally:
            process.terminate()


def _queue_url(log: Path) -> str:
    until = time.monotonic() + START_S
    while (found := re.search(r"^queue +(\S+)$", log.read_text(), re.MULTILINE)) is None:
        if time.monotonic() > until:
            raise SystemExit("crucible up did not say where its queue server is")
        time.sleep(0.1)
    return found[1]


def _await_ready(api: Api) -> None:
    until = time.monotonic() + START_S
    while True:
        try:
            if api.send("GET", "/ready")["workers_connected"]:
                return
        except OSError:
            if time.monotonic() > until:
                raise
        time.sleep(0.3)


@contextmanager
def open_browser() -> Iterator[Browser]:
    """Debian's Chromium, without a window."""
    binary = shutil.which("chromium") or shutil.which("chromium-browser")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=binary, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


def fill(api: Api) -> None:
    """Programs that ended in every way, one with tests, and some that are being run."""
    for number, program in enumerate(PROGRAMS):
        metadata = {"team": ("alpha", "beta")[number % 2], "set": "nightly"}
        api.run(eval_id=f"nightly-{number + 1:03}", metadata=metadata, **program)
    tests = [
        {"id": str(limit), "stdin": str(limit), "expected": _primes(limit)}
        for limit in (2, 10, 30, 100, 200, 500, 1000, 2000)
    ]
    tests[3]["expected"] = "2\n3\n5\n7\n11\n"
    api.run(eval_id="primes-0042", code=PRIMES, tests=tests, metadata={"team": "alpha"})
    items = [{"code": f"print({n} ** 2)", "isolation": "nested"} for n in range(150)]
    api.send("POST", "/api/eval/batch", items)


def _primes(limit: int) -> str:
    return "".join(f"{n}\n" for n in range(2, limit + 1) if all(n % d for d in range(2, n)))

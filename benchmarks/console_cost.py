"""What open consoles cost an api: processor time of its process, with tabs and without.

    python -m benchmarks.console_cost [--tabs 10] [--seconds 40]

An api at its submission rate has one core busy, so the share of a core that tabs take is the share
of the rate that they cost. Counted by the kernel, it does not depend on what else the machine does.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

from benchmarks.console_up import fill, installation, open_browser

#: What people look at: mostly lists, and how the service is.
PLACES = (
    "evaluations",
    "evaluations?status=failed",
    "queues",
    "workers",
    "evaluations/nightly-001",
    "dead-letters",
    "evaluations?q=nightly",
    "queues",
    "submit",
    "evaluations",
)
LIMIT = 0.02
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
#: Seconds after opening in which tabs load their files, which they do once.
_SETTLE_S = 5.0


def main() -> int:
    """Measure; exit code 1 where the tabs cost more than the limit."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.console_cost")
    parser.add_argument("--tabs", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=40.0)
    arguments = parser.parse_args()
    with installation() as api, open_browser() as browser:
        fill(api)
        pid = _api_process()
        time.sleep(_SETTLE_S)
        alone = share(pid, arguments.seconds)
        for number in range(arguments.tabs):
            page = browser.new_page()
            page.goto(f"{api.url}/#/{PLACES[number % len(PLACES)]}")
        time.sleep(_SETTLE_S)
        opened = share(pid, arguments.seconds)
    cost = opened - alone
    print(f"api without tabs     {alone:7.2%} of a core")
    print(f"with {arguments.tabs:2} tabs         {opened:7.2%}")
    print(f"cost of the tabs     {cost:7.2%}  (limit {LIMIT:.0%})")
    return 0 if cost < LIMIT else 1


def share(pid: int, seconds: float) -> float:
    """The share of a core that a process has for some seconds."""
    began, before = time.monotonic(), _busy_s(pid)
    time.sleep(seconds)
    return (_busy_s(pid) - before) / (time.monotonic() - began)


def _busy_s(pid: int) -> float:
    text = Path(f"/proc/{pid}/stat").read_text()
    user, system = text[text.rindex(")") + 2 :].split()[11:13]
    return (int(user) + int(system)) * _TICK_S


def _api_process() -> int:
    """The api below the ``crucible up`` that this process started."""
    for up in _children(os.getpid()):
        for child in _children(up):
            if Path(f"/proc/{child}/cmdline").read_bytes().rstrip(b"\0").endswith(b"\0api"):
                return child
    raise SystemExit("the api did not start")


def _children(pid: int) -> list[int]:
    return [
        int(child)
        for task in Path(f"/proc/{pid}/task").iterdir()
        for child in (task / "children").read_text().split()
    ]


if __name__ == "__main__":
    raise SystemExit(main())

"""Pictures of every screen of the console: light and dark, desktop and phone.

    python -m benchmarks.console_shots [--out .cache/console-shots] [--only queues submit]

Starts an installation of its own beside a legacy queue, runs programs in it, and looks.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from redis import Redis

from benchmarks.console_up import PRIMES, Api, fill, installation, open_browser
from crucible.broker.wire.encode import encode_task

if TYPE_CHECKING:
    from playwright.sync_api import Page, ViewportSize

PLACES = {
    "submit": "submit",
    "evaluations": "evaluations",
    "evaluation": "evaluations/nightly-003",
    "tests": "evaluations/primes-0042",
    "queues": "queues",
    "workers": "workers",
    "dead-letters": "dead-letters",
    "migration": "migration",
    "assessments": "assessments",
    "assessment": "assessments/nightly-2",
    "webhooks": "webhooks",
    "keys": "keys",
}
COLOURS: tuple[Literal["light", "dark"], ...] = ("light", "dark")
SIZES: dict[str, ViewportSize] = {
    "desktop": {"width": 1280, "height": 800},
    "phone": {"width": 390, "height": 844},
}
#: Milliseconds in which a screen has its first answers.
_SETTLE_MS = 1500


def main() -> None:
    """Take them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.console_shots")
    parser.add_argument("--out", type=Path, default=Path(".cache/console-shots"))
    parser.add_argument("--only", nargs="*", choices=PLACES, default=list(PLACES))
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    with installation(legacy=True) as api, open_browser() as browser:
        _fill(api)
        for colours in COLOURS:
            for size, viewport in SIZES.items():
                page = browser.new_page(viewport=viewport, color_scheme=colours)
                for name in arguments.only:
                    shoot(page, api.url, name, arguments.out / f"{name}-{size}-{colours}.png")
                page.close()
    print(f"{len(arguments.only) * 4} pictures in {arguments.out}")


def _fill(api: Api) -> None:
    api.send("POST", "/api/v1/webhooks", {"url": "https://example.org/crucible"})
    fill(api)
    for number in (1, 2):
        _assess(api, number)
    _spoil(api)


def _assess(api: Api, number: int) -> None:
    """A suite of forty programs, of which fewer fail the second time."""
    cases = [
        {"id": f"case-{n:02}", "name": f"factorial of {n}", "code": _factorial(n, wrong=n % 9 == 4),
         "tests": [{"id": "1", "expected": str(math.factorial(n))}],
         "isolation": "nested"}
        for n in range(40)
    ]  # fmt: skip
    if number == 2:
        cases[4]["code"] = _factorial(4, wrong=False)
    path = "/api/v1/assessments"
    suite = {"name": "nightly", "assessment_id": f"nightly-{number}", "cases": cases}
    api.send("POST", path, suite)
    api.send("POST", f"{path}/nightly-{number}/start")
    while api.send("GET", f"{path}/nightly-{number}")["status"] != "completed":
        time.sleep(0.5)


def _factorial(number: int, *, wrong: bool) -> str:
    return f"import math\nprint(math.factorial({number}) + {int(wrong)})"


def _spoil(api: Api) -> None:
    """Messages that nobody can run."""
    with Redis.from_url(api.queue_url) as redis:
        for name in ("reports.render_pdf", "mail.send"):
            message = encode_task(name, ["weekly"], task_id=f"{name}-7", queue="evaluation")
            redis.lpush("evaluation", message)
        redis.lpush("evaluation", b'{"body": "!!!", "headers": {}}')


def shoot(page: Page, url: str, name: str, path: Path) -> None:
    """One picture."""
    page.goto(f"{url}/#/{PLACES[name]}")
    page.reload()
    page.wait_for_timeout(_SETTLE_MS)
    if name == "submit":
        page.get_by_label("Program", exact=True).fill(PRIMES)
        page.get_by_label("Standard input").fill("30")
        page.get_by_role("button", name="Run", exact=True).click()
        page.get_by_label("Output", exact=True).wait_for()
    page.screenshot(path=path)


if __name__ == "__main__":
    main()

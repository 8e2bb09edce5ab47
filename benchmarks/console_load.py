"""How long the console takes to be usable over a slow link: its first load, nothing kept.

    python -m benchmarks.console_load [--loads 7] [--kbit 1600] [--delay-ms 150]

The browser itself slows its link, as its developer tools do ("Fast 3G" is 1.6 Mbit/s with 150 ms
for each request). Usable is when the editor of the first screen is there and takes a program.
"""

from __future__ import annotations

import argparse
import statistics
from typing import TYPE_CHECKING

from benchmarks.console_up import installation, open_browser

if TYPE_CHECKING:
    from playwright.sync_api import Browser

LIMIT_S = 1.0
#: Keeps the moment, in milliseconds since the request, in which the editor is there. By the
#: browser's own clock: asking from outside adds the time of the questions.
_WATCH = """
new MutationObserver((_, watcher) => {
  if (!document.querySelector("textarea[aria-label=Program]")) return;
  window.usableAt = performance.now();
  watcher.disconnect();
}).observe(document, { childList: true, subtree: true, attributes: true });
"""


def main() -> int:
    """Measure; exit code 1 where the median load takes longer than the limit."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.console_load")
    parser.add_argument("--loads", type=int, default=7)
    parser.add_argument("--kbit", type=float, default=1600, help="kilobits a second, both ways")
    parser.add_argument("--delay-ms", type=float, default=150, help="added to each request")
    arguments = parser.parse_args()
    with installation() as api, open_browser() as browser:
        free = [load_s(browser, api.url) for _ in range(arguments.loads)]
        slow = [
            load_s(browser, api.url, kbit=arguments.kbit, delay_ms=arguments.delay_ms)
            for _ in range(arguments.loads)
        ]
    _print("without a limit", free)
    _print(f"{arguments.kbit:.0f} kbit/s, {arguments.delay_ms:.0f} ms", slow)
    return 0 if statistics.median(slow) <= LIMIT_S else 1


def load_s(browser: Browser, url: str, *, kbit: float = 0, delay_ms: float = 0) -> float:
    """Seconds from the request for the page until its editor is there to take a program.

    Args:
        browser: what loads it; each time with an empty cache.
        url: of the api.
        kbit: kilobits a second of its link; 0 for no limit.
        delay_ms: what each request waits more.
    """
    with browser.new_context() as context:
        page = context.new_page()
        if kbit:
            bytes_s = kbit * 1000 / 8
            session = context.new_cdp_session(page)
            session.send("Network.enable")
            session.send(
                "Network.emulateNetworkConditions",
                {
                    "offline": False,
                    "latency": delay_ms,
                    "downloadThroughput": bytes_s,
                    "uploadThroughput": bytes_s,
                },
            )
        page.add_init_script(_WATCH)
        page.goto(url, wait_until="commit")
        # What takes the program is made by scripts: where it is, they have run.
        page.get_by_label("Program", exact=True).fill("print(42)")
        return float(page.evaluate("window.usableAt")) / 1000


def _print(label: str, times_s: list[float]) -> None:
    median = statistics.median(times_s)
    print(f"{label:24} {median:5.2f} s  ({min(times_s):.2f} to {max(times_s):.2f})")


if __name__ == "__main__":
    raise SystemExit(main())

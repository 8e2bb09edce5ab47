"""Alerts and dashboard: checked by Prometheus' own tools, against what the api exposes."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from support.api_rig import ended, running_api
from support.migration_rig import LegacyInstallation, LocalExecutor, celery_worker, until

from crucible.embedded.server import EmbeddedServer
from scripts.dashboard import PAGE, dashboard, expressions

if TYPE_CHECKING:
    import aiohttp

ROOT = Path(__file__).resolve().parents[2]
PROMETHEUS = ROOT / "deploy" / "prometheus"
#: Words of the query language in the expressions.
_WORDS = frozenset(
    {
        "and", "by", "delta", "histogram_quantile", "le", "max", "max_over_time", "on", "or",
        "queue", "queue_system", "rate", "sum", "status", "state", "kind", "step", "end",
        "downstream", "outcome",
    }
)  # fmt: skip


def promtool(*arguments: str | Path) -> str:
    """Run it in the folder of the rules; returns what it printed."""
    command = ["promtool", *map(str, arguments)]
    done = subprocess.run(command, cwd=PROMETHEUS, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def alerts() -> list[dict[str, Any]]:
    """The rules of all alerts."""
    read = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())
    return [rule for group in read["groups"] for rule in group["rules"]]


def metrics_in(expression: str) -> set[str]:
    """Names of metrics in an expression."""
    plain = re.sub(r'"[^"]*"|\[[^]]*\]|\{[^}]*\}', "", expression)
    found = re.findall(r"\b[a-z_]+\b", re.sub(r"\b\d[\w.]*", "", plain))
    return set(found) - _WORDS


async def exposed(client: aiohttp.ClientSession) -> set[str]:
    """Names of the metrics that /metrics shows, with at least one sample each."""
    async with client.get("/metrics") as response:
        lines = (await response.text()).splitlines()
    return {re.split(r"[{ ]", line, maxsplit=1)[0] for line in lines if line[0] != "#"}


def test_rules_are_valid_and_each_alert_fires_and_resolves() -> None:
    """Unit tests of rules: figures over time, when it fires, when it no longer does."""
    assert "11 rules found" in promtool("check", "rules", "alerts.yml")
    promtool("check", "config", "prometheus.yml")
    promtool("test", "rules", "alerts_test.yml")
    tested = yaml.safe_load((PROMETHEUS / "alerts_test.yml").read_text())["tests"]
    looked_at: dict[str, set[bool]] = {rule["alert"]: set() for rule in alerts()}
    for test in tested:
        for look in test["alert_rule_test"]:
            looked_at[look["alertname"]].add(bool(look["exp_alerts"]))
    assert all(both == {True, False} for both in looked_at.values()), looked_at


def test_every_alert_has_a_runbook() -> None:
    """A page with what it means, its expression, and what to type."""
    for rule in alerts():
        text = (ROOT / rule["annotations"]["runbook"]).read_text()
        assert text.startswith(f"# {rule['alert']}\n")
        assert rule["expr"].strip() in text
        assert "## What to type" in text


def test_the_dashboard_is_what_its_script_makes() -> None:
    """Nobody edits the file by hand."""
    assert PAGE.read_text() == dashboard(), "run python scripts/dashboard.py"
    panels = json.loads(PAGE.read_text())["panels"]
    shown = [target["expr"] for panel in panels for target in panel.get("targets", [])]
    assert shown == expressions()


def test_expressions_of_panels_parse(tmp_path: Path) -> None:
    """As recording rules, which promtool reads as Prometheus does."""
    rules = [{"record": f"panel:{n}", "expr": text} for n, text in enumerate(expressions())]
    file = tmp_path / "panels.yml"
    file.write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}))
    assert f"{len(rules)} rules found" in promtool("check", "rules", file)


async def test_panels_and_alerts_name_only_metrics_there_are(tmp_path: Path) -> None:
    """Each has a sample in an installation with everything, after one evaluation."""
    async with (
        EmbeddedServer(tmp_path) as server,
        LegacyInstallation(LocalExecutor(), 1) as legacy,
        running_api(server.url, queue_service_url=legacy.url, dual_write=True) as client,
        celery_worker(server.url, LocalExecutor()),
    ):
        await ended(client, {"code": "print(1)"})
        missing = await until_exposed(client, [*expressions(), *(one["expr"] for one in alerts())])
    assert missing == set()


async def until_exposed(client: aiohttp.ClientSession, texts: list[str]) -> set[str]:
    """Names in ``texts`` that are not exposed; a worker's load comes with its next heartbeat."""
    named = set().union(*(metrics_in(text) for text in texts))
    assert "queue_depth" in named

    async def all_there() -> bool:
        return not named - await exposed(client)

    try:
        await until(all_there)
    except TimeoutError:
        return named - await exposed(client)
    return set()

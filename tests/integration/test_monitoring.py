"""Alerts and dashboard: checked by Prometheus' own tools, against what the api exposes."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard, Panel
from grafana_foundation_sdk.models.prometheus import Dataquery
from support.api_rig import port_of, running_api
from support.history_rig import migrated
from support.migration_rig import LegacyInstallation, LocalExecutor, celery_worker, submit
from support.prometheus import scraping, series_of

from crucible.breaker import BreakerPolicy
from crucible.embedded.server import EmbeddedServer
from crucible.history.historian import open_historian
from crucible.redis_keys import Keys
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
        "downstream", "outcome", "reason",
    }
)  # fmt: skip


def tool(*command: str | Path) -> str:
    """Run a tool of Prometheus' in the folder of the rules; returns what it printed."""
    done = subprocess.run(
        [*map(str, command)], cwd=PROMETHEUS, capture_output=True, text=True, timeout=60
    )
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


def test_rules_are_valid_and_each_alert_fires_and_resolves() -> None:
    """Unit tests of rules: figures over time, when it fires, when it no longer does."""
    assert "12 rules found" in tool("promtool", "check", "rules", "alerts.yml")
    tool("promtool", "check", "config", "prometheus.yml")
    tool("promtool", "test", "rules", "alerts_test.yml")
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
    assert f"{len(rules)} rules found" in tool("promtool", "check", "rules", file)


def test_grafana_reads_the_dashboard() -> None:
    """Its own library decodes every panel, and its queries as those of Prometheus."""
    register_default_plugins()
    read = Dashboard.from_json(json.loads(PAGE.read_text()))
    panels = [one for one in read.panels or [] if isinstance(one, Panel)]
    queries = [target for panel in panels for target in panel.targets or []]
    assert all(isinstance(one, Dataquery) for one in queries)
    assert [one.expr for one in queries if isinstance(one, Dataquery)] == expressions()


def test_alerts_reach_somebody() -> None:
    """The routes of Alertmanager's configuration, which its own tool reads."""
    file = "--config.file=alertmanager.yml"
    assert "SUCCESS" in tool("amtool", "check-config", "alertmanager.yml")
    receivers = {
        severity: tool("amtool", "config", "routes", "test", file, f"severity={severity}").strip()
        for severity in {rule["labels"]["severity"] for rule in alerts()}
    }
    assert receivers == {"critical": "on-call", "warning": "operators"}
    config = yaml.safe_load((PROMETHEUS / "alertmanager.yml").read_text())
    known = {rule["alert"] for rule in alerts()}
    for rule in config["inhibit_rules"]:
        for matcher in (*rule["source_matchers"], *rule["target_matchers"]):
            assert any(re.fullmatch(_pattern_of(matcher), name) for name in known), matcher


def _pattern_of(matcher: str) -> str:
    """The names of alerts that a matcher is for."""
    return matcher.partition('"')[2].removesuffix('"')


async def test_every_panel_shows_something(tmp_path: Path) -> None:
    """A real Prometheus has a series for each of their expressions, of a loaded installation.

    And for every metric that an alert names: whether it fires is tested above.
    """
    database = f"sqlite:///{tmp_path}/history.sqlite"
    async with (
        migrated(database),
        EmbeddedServer(tmp_path / "queue") as server,
        LegacyInstallation(LocalExecutor(), 1) as legacy,
        running_api(
            server.url, queue_service_url=legacy.url, dual_write=True, history_url=database
        ) as client,
        open_historian(database, server.url, Keys(), count=100, policy=BreakerPolicy()),
        celery_worker(server.url, LocalExecutor(), concurrency=1),
        scraping(tmp_path, port_of(client)) as prometheus,
    ):
        load = asyncio.create_task(_keep_busy(client))
        named = set().union(*(metrics_in(one["expr"]) for one in alerts()))
        assert "queue_depth" in named
        try:
            found = await series_of(prometheus, [*expressions(), *sorted(named)])
        finally:
            load.cancel()
            await asyncio.gather(load, return_exceptions=True)
    assert [one for one, number in found.items() if not number] == []


async def _keep_busy(client: aiohttp.ClientSession) -> None:
    """Have programs run and others wait, until cancelled."""
    while True:
        for _ in range(5):
            await submit(client, "import time; time.sleep(0.2)")
        await asyncio.sleep(0.5)

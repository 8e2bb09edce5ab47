"""The whole service in containers, by the commands of docs/deployment.md."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from support.deployment import Deployment, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.docker, pytest.mark.long, pytest.mark.timeout(1500)]

#: All but Grafana, of which there is no image without a registry, and the stock worker.
STARTED = (
    *("queue", "bus", "postgres", "historian", "api", "executor", "worker"),
    *("flower", "prometheus", "alertmanager"),
)


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """Images of this checkout, secrets, keys, and everything but the stock worker started."""
    here = Deployment(tmp_path_factory.mktemp("deployment"))
    here.build()
    try:
        here.make_keys()
        here.compose("up", "-d", "--wait", "--scale", "worker=1", *STARTED)
        yield here
    finally:
        here.compose("down", "--volumes", "--timeout", "5")


@pytest.mark.parametrize("isolation", ["container", "nested"])
def test_a_program_runs_by_the_async_worker(deployment: Deployment, isolation: str) -> None:
    """The executor, in a container of its own, starts the program's beside it."""
    asked = {"code": "print(6 * 7)", "isolation": isolation}
    ended = deployment.ask("/api/eval?wait=60", asked)
    assert (ended["output"], ended["verdict"]) == ("42\n", "ok")
    assert ended["usage"]["memory_peak_kb"] > 0
    assert ended["worker"].startswith("crucible")


def test_a_program_runs_by_the_stock_worker_alone(deployment: Deployment) -> None:
    """With the async ones scaled to none; nothing submitted between is lost."""
    deployment.compose("up", "-d", "--no-deps", "--scale", "worker=0", "worker")
    between = deployment.ask("/api/eval", {"code": "print('kept')"})
    deployment.compose("up", "-d", "--no-deps", "stock-worker")
    ended = end_of(deployment, between["eval_id"])
    assert (ended["output"], ended["verdict"]) == ("kept\n", "ok")
    assert ended["worker"].startswith("celery@")


def test_flower_shows_both_kinds_of_workers(deployment: Deployment) -> None:
    """The stock one, and the async one that is back."""
    deployment.compose("up", "-d", "--no-deps", "--scale", "worker=1", "worker")

    def kinds() -> set[str]:
        shown = deployment.ask("/flower/workers?json=1", of="flower")["data"]
        names = [row["hostname"] for row in shown if row["status"]]
        return {kind for kind in ("celery", "crucible") for name in names if name.startswith(kind)}

    eventually(lambda: kinds() == {"celery", "crucible"})


def test_the_targets_of_prometheus_are_up(deployment: Deployment) -> None:
    """As compose.yaml configures it, with a key; and it has found Alertmanager and the rules."""

    def targets() -> list[tuple[str, str]]:
        found = deployment.ask("/api/v1/targets", of="prometheus")["data"]["activeTargets"]
        return [(one["labels"]["instance"], one["health"]) for one in found]

    eventually(lambda: targets() == [("api:8000", "up")])
    found = deployment.ask("/api/v1/alertmanagers", of="prometheus")["data"]
    assert [one["url"] for one in found["activeAlertmanagers"]] == [
        "http://alertmanager:9093/api/v2/alerts"
    ]
    [rules] = deployment.ask("/api/v1/rules", of="prometheus")["data"]["groups"]
    assert {one["health"] for one in rules["rules"]} <= {"ok", "unknown"}


def end_of(deployment: Deployment, eval_id: str) -> dict[str, Any]:
    """The evaluation once it has ended."""
    last: dict[str, Any] = {}

    def ended() -> bool:
        last.update(deployment.ask(f"/api/eval/{eval_id}?wait=30"))
        return last["status"] in {"completed", "failed", "cancelled"}

    eventually(ended)
    return last

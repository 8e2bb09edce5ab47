"""The whole service in containers, by the commands of docs/deployment.md."""

from __future__ import annotations

import threading
import uuid
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from support.deployment import WAIT_S, Deployment, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.docker, pytest.mark.long, pytest.mark.timeout(1500)]

#: All but Grafana, of which there is no image without a registry, and the stock worker.
STARTED = (
    *("queue", "bus", "postgres", "historian", "api", "executor", "worker"),
    *("flower", "prometheus", "alertmanager"),
)
#: In this order; the queue server first, since no stock worker may listen to it meanwhile.
KILLED = ("queue", "worker", "executor", "bus", "postgres", "historian", "api")
#: Seconds between two submissions of the trickle.
PAUSE_S = 0.4


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


def test_killing_the_stock_worker_loses_nothing_that_it_runs(deployment: Deployment) -> None:
    """Programs that were under way run again, by it or by the async worker.

    Only those: what kombu has popped and not written to its ``unacked`` hash is lost with the
    process, which a kill in the middle of a stream of submissions would hit now and then.
    """
    asked = {
        "code": "import time; time.sleep(15); print('again')",
        "limits": {"wall_time_s": 60},
        "metadata": {"killed": "stock-worker"},
    }
    ids = {deployment.ask("/api/eval", asked)["eval_id"] for _ in range(2)}
    for eval_id in ids:
        eventually(partial(is_running, deployment, eval_id))
    deployment.kill("stock-worker")
    deployment.compose("up", "-d", "--no-deps", "--scale", "worker=1", "worker")
    for eval_id in ids:
        ended = end_of(deployment, eval_id)
        assert (ended["output"], ended["verdict"]) == ("again\n", "ok")
    eventually(partial(are_in_history, deployment, "stock-worker", ids))


def test_flower_shows_both_kinds_of_workers(deployment: Deployment) -> None:
    """The stock one that was killed, and the async one that is back."""

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


class Trickle:
    """Submits a program every now and then, and the same again until it is accepted.

    Attributes:
        accepted: id of each evaluation that was accepted, and during which kill.
    """

    def __init__(self, deployment: Deployment) -> None:
        self.phase = ""
        self.accepted: dict[str, str] = {}
        self._deployment = deployment
        self._over = threading.Event()

    @contextmanager
    def flowing(self) -> Iterator[None]:
        """While the context is open."""
        thread = threading.Thread(target=self._submit)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join(WAIT_S)
        assert not thread.is_alive()

    def _submit(self) -> None:
        while not self._over.wait(PAUSE_S):
            eval_id, phase = uuid.uuid4().hex, self.phase
            body = {
                # Some run while something is killed.
                "code": f"import time; time.sleep(0.5); print({eval_id!r})",
                "eval_id": eval_id,
                "metadata": {"killed": phase},
            }
            eventually(partial(self._accepted, body))
            self.accepted[eval_id] = phase

    def _accepted(self, body: dict[str, Any]) -> bool:
        return bool(self._deployment.ask("/api/eval", body))

    def goes_on(self, before: int) -> bool:
        """More were accepted than before."""
        return len(self.accepted) > before

    def of(self, phase: str) -> set[str]:
        """Ids of those that were accepted during a kill."""
        return {eval_id for eval_id, found in self.accepted.items() if found == phase}


def test_killing_any_one_container_loses_nothing(deployment: Deployment) -> None:
    """Each starts again by its policy, and serves; everything accepted meanwhile has its result.

    The history has it all too, once what a killed process had not handed over yet is repaired. The
    stock worker is stopped while the queue server is killed: what the server has popped for it and
    not sent is lost.
    """
    restarts = deployment.restarts()
    trickle = Trickle(deployment)
    deployment.compose("stop", "stock-worker")
    with trickle.flowing():
        for service in KILLED:
            trickle.phase = service
            before = len(trickle.accepted)
            deployment.kill(service)
            eventually(partial(trickle.goes_on, before))
            probe = f"after-{service}"
            body = {"code": "print(1)", "eval_id": probe}
            eventually(partial(accepts, deployment, body))
            assert end_of(deployment, probe)["output"] == "1\n", service
            if service == "queue":
                deployment.compose("start", "stock-worker")
    ends = {eval_id: end_of(deployment, eval_id) for eval_id in trickle.accepted}
    wrong = [
        (trickle.accepted[eval_id], end)
        for eval_id, end in ends.items()
        if (end["status"], end["output"]) != ("completed", f"{eval_id}\n")
    ]
    assert wrong == []
    now = deployment.restarts()
    again = {name for name, number in now.items() if number > restarts[name]}
    assert again == set(KILLED), (restarts, now)
    assert set(trickle.accepted.values()) == set(KILLED)
    for service in ("postgres", "historian"):
        eventually(partial(are_in_history, deployment, service, trickle.of(service)))
    deployment.compose("run", "--rm", "--no-deps", "historian", "historian", "repair")
    for service in KILLED:
        eventually(partial(are_in_history, deployment, service, trickle.of(service)))


def accepts(deployment: Deployment, body: dict[str, Any]) -> bool:
    """Whether a submission is accepted now; the same again finds the first."""
    return bool(deployment.ask("/api/eval", body))


def is_running(deployment: Deployment, eval_id: str) -> bool:
    """Whether a worker has started it."""
    return bool(deployment.ask(f"/api/eval/{eval_id}")["status"] == "running")


def end_of(deployment: Deployment, eval_id: str) -> dict[str, Any]:
    """The evaluation once it has ended."""
    last: dict[str, Any] = {"eval_id": eval_id}

    def ended() -> bool:
        last.update(deployment.ask(f"/api/eval/{eval_id}?wait=30"))
        return last["status"] in {"completed", "failed", "cancelled"}

    eventually(ended, what=last)
    return last


def are_in_history(deployment: Deployment, service: str, wanted: set[str]) -> bool:
    """Whether the history has these of the time when something was killed, with their end."""
    path = f"/api/eval?metadata.killed={service}&status=completed&limit=500"
    return wanted <= {one["eval_id"] for one in deployment.ask(path)["items"]}

"""Where an evaluation goes: modes, stickiness and statistics."""

from __future__ import annotations

import random
import subprocess
import sys
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crucible.migration import Decision, Mode, QueueSystem, Switches, decide, share_of

URL = "http://127.0.0.1:8002"
C, L = QueueSystem.CELERY, QueueSystem.LEGACY


@pytest.mark.parametrize(
    ("enabled", "share", "force", "dual", "url", "mode"),
    [
        (True, 1.0, False, False, "", Mode.CELERY_ONLY),
        (True, 1.0, False, False, URL, Mode.CELERY_PRIMARY),
        (True, 0.5, False, False, URL, Mode.SPLIT),
        (True, 0.0, False, False, URL, Mode.LEGACY_ONLY),
        (False, 1.0, False, False, URL, Mode.LEGACY_ONLY),
        (False, 0.5, False, False, URL, Mode.LEGACY_ONLY),
        (True, 0.0, False, True, URL, Mode.DUAL_WRITE),
        (True, 1.0, False, True, URL, Mode.DUAL_WRITE),
        (True, 1.0, True, False, URL, Mode.LEGACY_ONLY),
        (True, 0.5, True, False, URL, Mode.LEGACY_ONLY),
        (True, 1.0, True, True, URL, Mode.LEGACY_ONLY),
    ],
)
def test_mode(enabled: bool, share: float, force: bool, dual: bool, url: str, mode: Mode) -> None:
    """The switches of the documents put the migration into the mode they mean."""
    switches = Switches(
        celery_enabled=enabled,
        celery_percentage=share,
        force_legacy_queue=force,
        dual_write=dual,
        queue_service_url=url,
    )
    assert switches.mode is mode


def test_defaults_need_no_legacy_queue() -> None:
    """With nothing set, a new installation is Celery only."""
    assert decide(Switches(), "x") == Decision(mode=Mode.CELERY_ONLY, primary=C)


def test_each_mode_sends_where_it_says() -> None:
    """Primary, shadow and failover of every mode, with the circuit closed and open."""
    legacy = Switches(force_legacy_queue=True, queue_service_url=URL)
    dual = Switches(dual_write=True, queue_service_url=URL)
    first = Switches(queue_service_url=URL)
    assert decide(legacy, "x") == Decision(mode=Mode.LEGACY_ONLY, primary=L)
    assert decide(dual, "x") == Decision(mode=Mode.DUAL_WRITE, primary=L, shadow=C)
    assert decide(dual, "x", celery_open=True) == Decision(mode=Mode.DUAL_WRITE, primary=L)
    assert decide(first, "x") == Decision(mode=Mode.CELERY_PRIMARY, primary=C, failover=L)
    assert decide(first, "x", celery_open=True).primary is L
    assert decide(Switches(), "x", celery_open=True).primary is C


@given(st.text(), st.floats(0.01, 1.0), st.booleans())
def test_what_is_graded_goes_to_celery(eval_id: str, share: float, celery_open: bool) -> None:
    """The legacy queue gets it only where it answers every client, and refuses it there."""
    some = Switches(celery_percentage=share, queue_service_url=URL)
    decision = decide(some, eval_id, celery_open=celery_open, graded=True)
    assert (decision.primary, decision.failover, decision.shadow) == (C, None, None)
    legacy = Switches(force_legacy_queue=True, queue_service_url=URL)
    assert decide(legacy, eval_id, graded=True).primary is L


@pytest.mark.parametrize("percent", [10, 25, 50, 90])
def test_split_keeps_its_share(percent: int) -> None:
    """Of 20 000 ids the share that goes to Celery is within four standard deviations."""
    random_ids = random.Random(20260101)
    ids = [str(uuid.UUID(int=random_ids.getrandbits(128), version=4)) for _ in range(20_000)]
    share = percent / 100
    switches = Switches(celery_percentage=share, queue_service_url=URL)
    taken = sum(decide(switches, eval_id).primary is C for eval_id in ids)
    deviation = (20_000 * share * (1 - share)) ** 0.5
    assert abs(taken - 20_000 * share) < 4 * deviation


@pytest.mark.parametrize("name", ["{}", "run-{:06}", "a{}b", "{:x}"])
def test_split_of_numbered_ids(name: str) -> None:
    """Ids that differ in a counter alone are spread just as evenly, in every tenth."""
    tenths = [0] * 10
    for number in range(20_000):
        tenths[int(share_of(name.format(number)) * 10)] += 1
    # Four standard deviations of a binomial with n = 20 000 and p = 0.1 are 170.
    assert all(abs(count - 2000) < 170 for count in tenths)


def test_place_of_an_id_never_changes() -> None:
    """The place of an id is the same in another process with another hash seed, and for ever."""
    ids = ["a", "eval-1", "日本", ""]
    code = f"from crucible.migration import share_of; print([share_of(i) for i in {ids!r}])"
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed, "PYTHONIOENCODING": "utf-8"},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert outputs == {f"{[share_of(i) for i in ids]}\n"}
    assert share_of("eval-1") == pytest.approx(PLACE_OF_EVAL_1, abs=0)


#: Written down: a change of the digest would move ids of running migrations.
PLACE_OF_EVAL_1 = 0.5880678159209634


@given(st.text(), st.floats(0, 1), st.floats(0, 1))
def test_raising_the_share_moves_ids_one_way(eval_id: str, one: float, other: float) -> None:
    """An id on the Celery side stays there when the percentage rises."""
    low, high = sorted((one, other))
    low_side, high_side = (
        decide(Switches(celery_percentage=share, queue_service_url=URL), eval_id).primary
        for share in (low, high)
    )
    assert 0 <= share_of(eval_id) < 1
    assert (low_side, high_side) != (C, L)


@given(st.text(), st.sampled_from([0.1, 0.5, 0.9]))
def test_split_ignores_the_circuit(eval_id: str, share: float) -> None:
    """An id never changes sides by itself, not even while the circuit is open."""
    switches = Switches(celery_percentage=share, queue_service_url=URL)
    assert decide(switches, eval_id) == decide(switches, eval_id, celery_open=True)

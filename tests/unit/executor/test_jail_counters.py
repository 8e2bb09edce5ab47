"""What process 1 reads of its control group, in both versions of the kernel's interface.

The trees are made after the kernel's documentation (``cgroup-v1/memory.rst``, ``cgroup-v2.rst``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from crucible.executor.jail import kernel
from crucible.executor.jail.lane_memory import LaneMemory, memory_held
from crucible.executor.jail.single import Single

if TYPE_CHECKING:
    from pathlib import Path

V1 = {
    "cpuacct/cpuacct.usage": "1500000000\n",
    "memory/memory.max_usage_in_bytes": "9000000\n",
    "memory/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n",
    "memory/memory.stat": "cache 5\nrss 700\ntotal_cache 5\ntotal_rss 700\ntotal_shmem 50\n",
    "memory/memory.usage_in_bytes": "8000000\n",
    "pids/pids.current": "4\n",
    "pids/pids.events": "max 2\n",
}
V2 = {
    "cpu.stat": "usage_usec 1500000\nuser_usec 1000000\nsystem_usec 500000\n",
    "memory.current": "8000000\n",
    "memory.events": "low 0\nhigh 0\nmax 9\noom 4\noom_kill 3\noom_group_kill 0\n",
    "memory.peak": "9000000\n",
    "memory.stat": "anon 700\nfile 5\nkernel 90\nshmem 50\nfile_mapped 1\n",
    "pids.current": "4\n",
    "pids.events": "max 2\n",
}


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty tree in the place of the control group's."""
    monkeypatch.setattr(kernel, "CGROUP", str(tmp_path))
    monkeypatch.setattr(kernel, "_counters", {})
    return tmp_path


def fill(tree: Path, files: dict[str, str]) -> None:
    """Write files, over those there are."""
    for name, text in files.items():
        path = tree / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)


@pytest.mark.parametrize("files", [V1, V2], ids=["v1", "v2"])
def test_counters_are_the_same_in_both_versions(tree: Path, files: dict[str, str]) -> None:
    """Each is found under its own name, and read anew each time."""
    fill(tree, files)
    assert kernel.cpu_time() == 1.5
    assert kernel.highest_memory() == 9_000_000
    assert kernel.memory_in_use() == 8_000_000
    assert kernel.oom_kills() == 3
    assert kernel.pids_in_use() == 4
    assert kernel.refused_forks() == 2
    assert memory_held() == 750
    name = "pids/pids.current" if "pids/pids.current" in files else "pids.current"
    fill(tree, {name: "5\n"})
    assert kernel.pids_in_use() == 5


def test_nothing_is_counted_where_no_group_is_visible(tree: Path) -> None:
    """No file, no number; processor time is then summed over processes."""
    del tree
    numbers = (
        kernel.highest_memory(), kernel.memory_in_use(), kernel.oom_kills(), kernel.pids_in_use(),
        kernel.refused_forks(), memory_held(),
    )  # fmt: skip
    assert numbers == (0,) * 6
    assert kernel.cpu_time() > 0


def program(highest_before: int) -> Single:
    """One that has begun."""
    request: dict[str, Any] = {"memory_bytes": 1 << 28, "talks": False, "wall_s": 9.0}
    return Single({**request, "cpu_s": 9.0, "cpus": 1.0}, -1, -1, -1, highest_before)


@pytest.mark.parametrize("before", [0, 9_000_000], ids=["first", "later"])
def test_a_peak_that_is_not_the_programs_is_what_was_seen(tree: Path, before: int) -> None:
    """Without ``memory.peak`` (before Linux 5.19), and under the peak of an earlier program."""
    files = dict(V2)
    if not before:
        del files["memory.peak"]
    fill(tree, files)
    running = program(before)
    fill(tree, {"memory.current": "8500000\n"})
    running.look(running.started)
    fill(tree, {"memory.current": "8200000\n"})
    assert running.peak_bytes() == 8_500_000


def test_a_higher_peak_is_the_programs(tree: Path) -> None:
    """It exceeded those before it."""
    fill(tree, V2)
    running = program(8_900_000)
    assert running.peak_bytes() == 9_000_000


def test_what_each_processor_holds_back_is_not_taken_for_left_memory(tree: Path) -> None:
    """Counters lag behind by 64 pages a processor; more than that, and 2 MiB, was left."""
    fill(tree, V2)
    memory = LaneMemory()
    lag = memory.left_bytes - (2 << 20)
    assert lag >= 64 * 4096
    for more, free in ((lag + (2 << 20), True), (lag + (3 << 20), False)):
        fill(tree, {"memory.current": f"{8_000_000 + (9 << 20)}\n"})
        fill(tree, {"memory.stat": f"anon {700 + more}\nshmem 50\n"})
        memory.used_bytes = 8_000_000
        assert memory.is_free() is free

"""The compile cache: what it keeps, what it lets go, and who waits for whom."""

from __future__ import annotations

import asyncio
from collections import OrderedDict

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.loop_turns import turns

from crucible.environments import DEFAULT, JUDGE
from crucible.executor.artifact import Artifact, ArtifactFile, Compilation
from crucible.executor.compile_cache import ENTRY_BYTES, CompileCache, key_of
from crucible.executor.languages import languages_of
from crucible.models import CompileReport, Limits, Usage, Verdict

LIMITS = Limits()
C = languages_of(DEFAULT)["c"]


def compiled(content: bytes = b"x", error: bytes = b"") -> Compilation:
    """A compile that came to something."""
    files = (ArtifactFile(name="main", content=content, executable=True),)
    report = CompileReport(exit_code=0, error=error, usage=Usage(cpu_time_ms=5))
    return Compilation(verdict=Verdict.OK, report=report, artifact=Artifact(files=files), run_s=1.0)


FAILED = Compilation(verdict=Verdict.COMPILE_ERROR, report=CompileReport(exit_code=1, error=b"no"))
FAULT = Compilation(verdict=Verdict.INTERNAL_ERROR)


def key(source: bytes = b"s", **changes: object) -> bytes:
    """A key; every argument has a default."""
    fields: dict[str, object] = {
        "tenant": "t",
        "image_id": "sha256:1",
        "language": C,
        "env": {},
        "files": [("main.c", source)],
        "executable": [],
    }
    return key_of(**{**fields, **changes})  # type: ignore[arg-type]  # named by the tests


def entry_bytes(content: bytes) -> int:
    """What an entry is counted as."""
    artifact = compiled(content).artifact
    assert artifact is not None
    return ENTRY_BYTES + artifact.size_bytes


@pytest.mark.parametrize(
    "changes",
    [
        {"source": b"S"},
        {"tenant": "u"},
        {"image_id": "sha256:2"},
        {"language": languages_of(JUDGE)["c"]},
        {"language": languages_of(JUDGE)["cpp"]},
        {"env": {"CPATH": "/tmp"}},
        {"files": [("main.c", b"s"), ("a.h", b"")]},
        {"files": [("main.h", b"s")]},
        {"executable": ["main.c"]},
    ],
    ids=str,
)
def test_all_that_a_compiler_sees_is_in_the_key(changes: dict[str, object]) -> None:
    """Source, files and their modes, variables, command, image; and whose it is."""
    assert key(**changes) != key()  # type: ignore[arg-type]  # named by the tests


@given(st.lists(st.tuples(st.text(max_size=3), st.binary(max_size=3)), unique_by=lambda f: f[0]))
def test_files_do_not_run_into_each_other(files: list[tuple[str, bytes]]) -> None:
    """The key tells where one name or content ends; the order of the files says nothing."""
    assert key(files=files) == key(files=files[::-1])
    for at, (name, content) in enumerate(files):
        if content:
            moved = [*files[:at], (name + "x", content[1:]), *files[at + 1 :]]
            assert key(files=moved) != key(files=files)


class Model:
    """The same without bytes: what is in it, the one used last at the end."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.entries: OrderedDict[bytes, int] = OrderedDict()

    def put(self, name: bytes, size: int) -> None:
        """Keep it, if it fits at all."""
        self.entries.pop(name, None)
        if size <= self.room:
            self.entries[name] = size
        while sum(self.entries.values()) > self.room:
            self.entries.popitem(last=False)


@given(
    st.integers(0, 8000),
    st.lists(st.tuples(st.sampled_from("pg"), st.integers(0, 5), st.integers(0, 3000))),
)
def test_what_was_unused_for_longest_goes(room: int, steps: list[tuple[str, int, int]]) -> None:
    """Whatever is put and asked for, the cache has what the model has, within its bytes."""

    async def play() -> None:
        cache, model = CompileCache(room), Model(room)
        for kind, number, size in steps:
            name, content = key(bytes([number])), b"x" * size
            if kind == "p":
                cache.put(name, compiled(content))
                model.put(name, entry_bytes(content))
            else:
                found = await cache.find(name, LIMITS)
                assert (found is not None) == (name in model.entries)
                if found is not None:
                    model.entries.move_to_end(name)
                    assert found.report.cached
                    assert found.report.usage == Usage()
            assert cache.size_bytes == sum(model.entries.values()) <= room
            assert len(cache) == len(model.entries)

    asyncio.run(play())


async def test_what_was_changed_is_not_used() -> None:
    """An entry whose content is not what was put there is thrown away and compiled anew."""
    cache = CompileCache(1 << 20)
    cache.put(key(), compiled(b"right"))
    other = compiled(b"wrong").artifact
    assert other is not None
    entry = cache._entries[key()]
    cache._entries[key()] = type(entry)(other, entry.report)
    assert await cache.find(key(), LIMITS) is None
    assert (cache.totals.spoilt, len(cache)) == (1, 0)


@pytest.mark.parametrize("failed", [FAILED, FAULT])
async def test_what_did_not_compile_is_not_kept(failed: Compilation) -> None:
    """The next one may have other limits, and a fault of the platform says nothing."""
    cache = CompileCache(1 << 20)
    with cache.fly(key(), LIMITS) as flight:
        flight.land(failed)
    assert await cache.find(key(), LIMITS) is None


async def test_what_is_not_the_keys_is_neither_kept_nor_shared() -> None:
    """Compiled by an image that was replaced meanwhile."""
    cache = CompileCache(1 << 20)
    with cache.fly(key(), LIMITS) as flight:
        waiting = asyncio.create_task(cache.find(key(), LIMITS))
        await turns()
        flight.land(compiled(), keep=False)
    assert await waiting is None
    assert len(cache) == 0


async def test_one_compiles_and_the_others_wait() -> None:
    """Each gets what the first made, even where it is too large to be kept."""
    cache = CompileCache(10)
    assert await cache.find(key(), LIMITS) is None
    with cache.fly(key(), LIMITS) as flight:
        waiting = [asyncio.create_task(cache.find(key(), LIMITS)) for _ in range(3)]
        await turns()
        assert not any(task.done() for task in waiting)
        flight.land(compiled(b"much" * 10))
        found = [await task for task in waiting]
    assert all(one is not None and one.report.cached and one.artifact for one in found)
    assert (cache.totals.hits, cache.totals.misses, len(cache)) == (3, 1, 0)


async def test_a_failure_is_shared_under_the_same_limits_only() -> None:
    """A compiler that was short of memory may have enough of it elsewhere."""
    cache = CompileCache(1 << 20)
    with cache.fly(key(), LIMITS) as flight:
        same = asyncio.create_task(cache.find(key(), LIMITS))
        other = asyncio.create_task(cache.find(key(), Limits(memory_mb=512)))
        await turns()
        flight.land(FAILED)
    shared = await same
    assert shared is not None
    assert (shared.verdict, shared.report.error) == (Verdict.COMPILE_ERROR, b"no")
    assert await other is None


@given(st.lists(st.sampled_from(["cancel", "fail", "land"]), min_size=1, max_size=6))
def test_whoever_is_lost_the_others_get_on(fates: list[str]) -> None:
    """Of those who want the same, one at a time compiles; a lost one is followed by the next."""

    async def play() -> None:
        cache = CompileCache(1 << 20)
        under_way, most, compiles = 0, 0, 0
        go = [asyncio.Event() for _ in fates]

        async def one(number: int) -> str:
            nonlocal under_way, most, compiles
            found = await cache.find(key(), LIMITS)
            if found is not None:
                return "found"
            with cache.fly(key(), LIMITS) as flight:
                under_way, compiles = under_way + 1, compiles + 1
                most = max(most, under_way)
                try:
                    await go[number].wait()
                    if fates[number] == "fail":
                        return "failed"
                    flight.land(compiled())
                    return "landed"
                finally:
                    under_way -= 1

        tasks = [asyncio.create_task(one(number)) for number in range(len(fates))]
        for number, fate in enumerate(fates):
            await turns()
            if fate == "cancel":
                tasks[number].cancel()
            go[number].set()
        ends = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 10)
        first = fates.index("land") if "land" in fates else len(fates)
        wanted = {"cancel": "CancelledError", "fail": "failed", "land": "landed"}
        told = [end if isinstance(end, str) else type(end).__name__ for end in ends]
        assert told[: first + 1] == [wanted[fate] for fate in fates[: first + 1]]
        assert set(told[first + 1 :]) <= {"found", "CancelledError"}
        assert most <= 1
        assert not cache._flights

    asyncio.run(play())


async def test_without_a_cache_everybody_compiles() -> None:
    """Nothing is kept, and nobody waits."""
    cache = CompileCache(0)
    with cache.fly(key(), LIMITS):
        assert await cache.find(key(), LIMITS) is None
    cache.put(key(), compiled())
    assert (len(cache), cache.size_bytes) == (0, 0)

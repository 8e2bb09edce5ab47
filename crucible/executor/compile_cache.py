"""What compilers made, kept for the same source of the same tenant, in a bounded number of bytes.

An artifact gets in only as a compiler's sandbox handed it back, before anything of the program ran.
Its hash is kept apart from it and checked whenever it is used. Of several who want the same at
once, one compiles and the others wait for it.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import TYPE_CHECKING, Self

import msgspec

from crucible.executor.artifact import Compilation, digest_of
from crucible.models import CompileReport, Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crucible.executor.artifact import Artifact
    from crucible.executor.languages import Language
    from crucible.models import Limits

#: The gauge of a cache's size.
CACHE_BYTES = "compile_cache_bytes"
#: Bytes of an entry beside its artifact and its compiler's words.
ENTRY_BYTES = 500


def key_of(
    *,
    tenant: str,
    image_id: str,
    language: Language,
    env: Mapping[str, str],
    files: list[tuple[str, bytes]],
    executable: list[str],
) -> bytes:
    """The key of an artifact: all that a compiler's work depends on, but its limits.

    Args:
        tenant: whose program it is; nobody gets what another's program was compiled to.
        image_id: the toolchain.
        language: with the compiler's command line and variables.
        env: the program's own variables, which the compiler sees too.
        files: names and contents, the source among them.
        executable: names of those that may be started.
    """
    compiler = (language.name, language.compile, sorted(language.env.items()))
    parts = [
        tenant.encode(),
        image_id.encode(),
        msgspec.json.encode((compiler, sorted(env.items()), sorted(executable))),
    ]
    for name, content in sorted(files):
        parts += [name.encode(), content]
    return digest_of(parts)


class CacheTotals(msgspec.Struct, kw_only=True):
    """What a cache has done since it was made.

    Attributes:
        hits: programs that were not compiled, because the same had been or was being.
        misses: programs that were.
        evicted: entries that went to make room.
        spoilt: entries whose hash was not theirs any more; they are thrown away.
    """

    hits: int = 0
    misses: int = 0
    evicted: int = 0
    spoilt: int = 0


class _Entry(msgspec.Struct, frozen=True):
    artifact: Artifact
    report: CompileReport

    @property
    def size_bytes(self) -> int:
        return ENTRY_BYTES + self.artifact.size_bytes + len(self.report.error)


class Flight:
    """One compile under way, which others may wait for; ends with its ``with`` block at latest."""

    def __init__(self, cache: CompileCache, key: bytes, limits: Limits) -> None:
        self._cache = cache
        self._key = key
        self._over = asyncio.Event()
        self.limits = limits
        self.landed: Compilation | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def land(self, compilation: Compilation, *, keep: bool = True) -> None:
        """Give those who wait what was compiled, and keep it.

        Args:
            compilation: how it ended.
            keep: what was compiled is what the key says.
        """
        if keep:
            self.landed = compilation
            self._cache.put(self._key, compilation)
        self._end()

    async def wait(self) -> Compilation | None:
        """What came of it; None when that is of no use to others."""
        await self._over.wait()
        return self.landed

    def _end(self) -> None:
        if not self._over.is_set():
            self._over.set()
            self._cache.end(self._key, self)


class CompileCache:
    """Artifacts by key; the ones unused for longest go when there is no room.

    Args:
        max_bytes: of all entries; 0 keeps nothing, and nobody waits for another's compile.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.size_bytes = 0
        self.totals = CacheTotals()
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()
        self._digests: dict[bytes, bytes] = {}
        self._flights: dict[bytes, Flight] = {}

    def __len__(self) -> int:
        return len(self._entries)

    async def find(self, key: bytes, limits: Limits) -> Compilation | None:
        """What is there already, or what comes of a compile under way.

        Waits no longer than others' compiles may take by their own limits. None: the caller is to
        compile, and to call ``fly`` before it awaits anything.

        Args:
            key: of ``key_of``.
            limits: the compiler's; a compile that failed says nothing about other limits.
        """
        while (flight := self._flights.get(key)) is not None:
            landed = await flight.wait()
            if landed is not None and (
                landed.verdict is Verdict.OK
                or (landed.verdict is Verdict.COMPILE_ERROR and flight.limits == limits)
            ):
                self.totals.hits += 1
                return _as_cached(landed)
        entry = self._take(key)
        if entry is None:
            self.totals.misses += 1
            return None
        self.totals.hits += 1
        return _as_cached(
            Compilation(verdict=Verdict.OK, report=entry.report, artifact=entry.artifact)
        )

    def fly(self, key: bytes, limits: Limits) -> Flight:
        """Compile, as a context: others wait for it until it has landed or the context ends."""
        flight = Flight(self, key, limits)
        if self.max_bytes:
            self._flights[key] = flight
        return flight

    def put(self, key: bytes, compilation: Compilation) -> None:
        """Keep what was compiled, if it was; the rest makes room."""
        if compilation.artifact is None:
            return
        entry = _Entry(compilation.artifact, compilation.report)
        self._drop(key)
        if entry.size_bytes > self.max_bytes:
            return
        self._entries[key] = entry
        self._digests[key] = entry.artifact.digest()
        self.size_bytes += entry.size_bytes
        while self.size_bytes > self.max_bytes:
            self._drop(next(iter(self._entries)))
            self.totals.evicted += 1

    def end(self, key: bytes, flight: Flight) -> None:
        """A compile is not under way any more."""
        if self._flights.get(key) is flight:
            del self._flights[key]

    def _take(self, key: bytes) -> _Entry | None:
        """An entry, which is now the one used last; None when there is none or it is spoilt."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry.artifact.digest() != self._digests[key]:
            self._drop(key)
            self.totals.spoilt += 1
            return None
        self._entries.move_to_end(key)
        return entry

    def _drop(self, key: bytes) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            del self._digests[key]
            self.size_bytes -= entry.size_bytes


def _as_cached(compilation: Compilation) -> Compilation:
    """The same for a program that no compiler ran for."""
    report = msgspec.structs.replace(
        compilation.report, usage=type(compilation.report.usage)(), cached=True
    )
    return msgspec.structs.replace(compilation, report=report, run_s=0.0)

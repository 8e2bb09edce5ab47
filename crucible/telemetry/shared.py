"""One view of the metrics of several processes that serve one port.

A scrape reaches any of them. Each keeps what it counted in a file of its own, which the others add
to theirs. Before it answers a scrape a process writes its file: what one of them has reported is in
every later answer, so a sum never falls, which Prometheus would take for a restart. What a process
counted stays after its end; what it held (gauges) does not.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeAlias

import msgspec
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from prometheus_client import CollectorRegistry

_Labels: TypeAlias = tuple[tuple[str, str], ...]


class _Family(msgspec.Struct, array_like=True):
    name: str
    text: str
    kind: str
    samples: list[tuple[str, _Labels, float]]


_decoder = msgspec.msgpack.Decoder(list[_Family])


class SharedMetrics:
    """The files of a directory, one a process. Open it with ``opened``.

    Args:
        directory: theirs alone.
        own: name of the file of this process.
    """

    def __init__(self, directory: Path, own: str) -> None:
        self._directory = directory
        self._own = own

    @classmethod
    @contextmanager
    def opened(cls, directory: Path) -> Iterator[SharedMetrics]:
        """Take part for as long as the context is open.

        Raises:
            OSError: the directory cannot be written.
        """
        own = f"{os.getpid()}-{os.urandom(4).hex()}"
        with (directory / f"{own}.lock").open("w") as lock:
            # Held until the process ends, however it does; it tells the others who lives.
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield cls(directory, own)

    def write(self, counted: Iterable[Metric]) -> None:
        """Keep what this process counted; raises OSError."""
        families = [
            _Family(
                one.name,
                one.documentation,
                one.type,
                [(s.name, tuple(sorted(s.labels.items())), s.value) for s in one.samples],
            )
            for one in counted
        ]
        written = self._directory / f"{self._own}.new"
        written.write_bytes(msgspec.msgpack.encode(families))
        written.replace(self._directory / f"{self._own}.metrics")

    def merged(self) -> list[Metric]:
        """What all have counted, and what those that live hold; raises OSError."""
        merged: dict[str, _Sum] = {}
        for path in sorted(self._directory.glob("*.metrics")):
            is_alive = path.stem == self._own or self._is_locked(path.with_suffix(".lock"))
            for family in _decoder.decode(path.read_bytes()):
                if is_alive or family.kind != "gauge":
                    merged.setdefault(family.name, _Sum(family)).add(family)
        return [one.metric() for one in merged.values()]

    def _is_locked(self, path: Path) -> bool:
        with path.open() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False


class _Sum:
    """The samples of one family, added up over processes."""

    def __init__(self, family: _Family) -> None:
        self._family = family
        self._values: dict[tuple[str, _Labels], float] = {}

    def add(self, family: _Family) -> None:
        for name, labels, value in family.samples:
            known = self._values.get((name, labels))
            if known is None:
                self._values[name, labels] = value
            elif name.endswith("_created"):
                self._values[name, labels] = min(known, value)
            else:
                self._values[name, labels] = known + value

    def metric(self) -> Metric:
        metric = Metric(self._family.name, self._family.text, self._family.kind)
        for (name, labels), value in self._values.items():
            metric.add_sample(name, dict(labels), value)
        return metric


class Fixed(Collector):
    """Metrics as they are.

    Args:
        metrics: of one scrape.
    """

    def __init__(self, metrics: Sequence[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        """They."""
        yield from self._metrics


def collected(registry: CollectorRegistry) -> list[Metric]:
    """What a registry exposes now."""
    return list(registry.collect())

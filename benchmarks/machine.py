"""Describes the machine of a run, and measures what its processes use."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import psutil

_PACKAGES = ("aiohttp", "uvloop", "redis", "hiredis", "msgspec", "aiodocker")


def describe() -> dict[str, Any]:
    """Processor, kernel, memory, versions and load: what a reader needs to judge the figures."""
    from importlib.metadata import PackageNotFoundError, version

    import crucible

    versions = {"python": platform.python_version(), "crucible": crucible.__version__}
    for name in _PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_mb": psutil.virtual_memory().total // 2**20,
        "kernel": platform.release(),
        "system": _system(),
        "load_before": round(os.getloadavg()[0], 2),
        "versions": versions,
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _system() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    except OSError:
        return "Linux"


def cores_apart() -> tuple[list[int], list[int]]:
    """Processor numbers for the subject (one) and for everything else (the rest).

    With a single core both share it; the machine's description has the number of cores.
    """
    cores = sorted(os.sched_getaffinity(0))
    return ([cores[0]], cores[1:]) if len(cores) > 1 else (cores, cores)


def cpu_s(pid: int) -> float:
    """Processor seconds a process and all its living descendants have used."""
    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0.0
    return sum(_cpu_s(member) for member in family)


def _cpu_s(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system + times.children_user + times.children_system)


def rss_mb(pid: int) -> float:
    """Resident memory of one process in MiB."""
    return float(psutil.Process(pid).memory_info().rss) / 2**20


def descriptors(pid: int) -> int:
    """Open file descriptors of one process."""
    return int(psutil.Process(pid).num_fds())

"""Commands about the process, its settings and the machine."""

from __future__ import annotations

import os
import platform
import re
import resource
import time
from importlib import metadata
from typing import TYPE_CHECKING, Any

import crucible
from crucible.broker.redis.connection import read_url

if TYPE_CHECKING:
    from crucible.worker.control.controlled import ControlledWorker

_MASK = "********"
_QUERY_SECRET = re.compile(r"(password=)[^&;]*")
_RUSAGE = (
    *("utime", "stime", "maxrss", "ixrss", "idrss", "isrss", "minflt", "majflt", "nswap"),
    *("inblock", "oublock", "msgsnd", "msgrcv", "nsignals", "nvcsw", "nivcsw"),
)
_PAGE_KB = os.sysconf("SC_PAGE_SIZE") / 1024


def stats(worker: ControlledWorker, **_: Any) -> dict[str, Any]:
    """Figures about the worker."""
    return {
        "total": dict(worker.node.task_events.totals),
        "pid": os.getpid(),
        "clock": str(worker.node.clock.value),
        "uptime": round(time.time() - worker.node.started_at),
        "pool": _pool(worker.runs.concurrency, worker.node.task_events.totals.total()),
        "broker": _broker(
            worker.config.broker_url, worker.config.visibility_timeout_s, worker.config.keys.prefix
        ),
        "prefetch_count": worker.runs.concurrency,
        "rusage": {name: getattr(_usage(), f"ru_{name}") for name in _RUSAGE},
    }


def _usage() -> resource.struct_rusage:
    return resource.getrusage(resource.RUSAGE_SELF)


def _pool(size: int, started: int) -> dict[str, Any]:
    """The members of stock's pools, for tasks that share one process and one loop."""
    return {
        "implementation": "crucible.worker.slots:Slots",
        "max-concurrency": size,
        "processes": [os.getpid()],
        "max-tasks-per-child": "N/A",
        "put-guarded-by-semaphore": False,
        "timeouts": [0, 0],
        "writes": {
            "total": started,
            "avg": "1.00" if started else "0.00",
            "all": "1.00" if started else "",
            "raw": str(started),
            "strategy": None,
            "inqueues": {"total": 0, "active": 0},
        },
    }


def _broker(url: str, visibility_timeout_s: float, prefix: str) -> dict[str, Any]:
    options = read_url(url).options
    transport_options: dict[str, Any] = {"visibility_timeout": visibility_timeout_s}
    if prefix:
        transport_options["global_keyprefix"] = prefix
    return {
        "hostname": options.get("host") or options.get("path"),
        "userid": options.get("username"),
        "virtual_host": str(options["db"]),
        "port": options.get("port"),
        "insist": False,
        "ssl": url.startswith("rediss"),
        "transport": "redis",
        "connect_timeout": 4,
        "transport_options": transport_options,
        "login_method": None,
        "uri_prefix": None,
        "heartbeat": 0,
        "failover_strategy": "round-robin",
        "alternates": [],
        "credential_provider": None,
    }


def conf(worker: ControlledWorker, with_defaults: Any = False, **_: Any) -> dict[str, Any]:
    """The settings, under the names stock has for them; passwords masked."""
    return {
        "broker_url": masked(worker.config.broker_url),
        "result_backend": masked(worker.config.result_backend),
        "broker_transport_options": {
            "visibility_timeout": worker.config.visibility_timeout_s,
            "global_keyprefix": worker.config.keys.prefix,
        },
        "task_serializer": "json",
        "result_serializer": "json",
        "accept_content": ["json", "application/x-msgpack"],
        "timezone": "UTC",
        "enable_utc": True,
        "result_expires": worker.config.result_ttl_s,
        "task_acks_late": True,
        "worker_concurrency": worker.runs.concurrency,
        "worker_send_task_events": worker.node.task_events.enabled,
    }


def masked(url: str) -> str:
    """A URL as stock shows it: eight asterisks for a password."""
    url = _QUERY_SECRET.sub(rf"\1{_MASK}", url)
    scheme, separator, rest = url.partition("://")
    credentials, at, place = rest.rpartition("@")
    if not at:
        return url
    user, colon, _ = credentials.partition(":")
    return f"{scheme}{separator}{user}{colon}{_MASK if colon else ''}@{place}"


def report(worker: ControlledWorker) -> dict[str, str]:
    """What a bug report needs."""
    settings = "\n".join(f"{name}: {value!r}" for name, value in conf(worker).items())
    bits, linkage = platform.architecture()
    return {
        "ok": (
            f"\nsoftware -> crucible:{crucible.__version__} py:{platform.python_version()}\n"
            f"            redis:{metadata.version('redis')}\n"
            f"platform -> system:{platform.system()} arch:{bits}, {linkage}\n"
            f"            kernel version:{platform.release()} "
            f"imp:{platform.python_implementation()}\n"
            f"settings -> transport:redis results:{masked(worker.config.result_backend)}\n\n"
            f"{settings}\n"
        )
    }


def _resident_kb() -> float:
    with open("/proc/self/statm", encoding="ascii") as statm:  # noqa: PTH123 - a pseudo-file
        return int(statm.read().split()[1]) * _PAGE_KB


def memsample(worker: ControlledWorker, **_: Any) -> str:
    """Resident memory now."""
    return f"{_resident_kb() / 1024:.5g}MB"


def memdump(worker: ControlledWorker, samples: int = 10, **_: Any) -> str:
    """Resident memory now; earlier samples are not kept, monitoring does that."""
    return f"- rss (sample): {memsample(worker)}\n"


def objgraph(
    worker: ControlledWorker,
    num: int = 200,
    max_depth: int = 10,
    type: str = "Request",  # noqa: A002 - stock's name
) -> None:
    """Not offered; the reply is that of a stock worker without the library."""
    raise ImportError("Requires the objgraph library")

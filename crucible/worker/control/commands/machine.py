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
    from crucible.worker.control.node import Node

_MASK = "********"
_QUERY_SECRET = re.compile(r"(password=)[^&;]*")
_RUSAGE = (
    *("utime", "stime", "maxrss", "ixrss", "idrss", "isrss", "minflt", "majflt", "nswap"),
    *("inblock", "oublock", "msgsnd", "msgrcv", "nsignals", "nvcsw", "nivcsw"),
)
_PAGE_KB = os.sysconf("SC_PAGE_SIZE") / 1024


def stats(fleet: Node, **_: Any) -> dict[str, Any]:
    """Figures about the worker."""
    worker = fleet.worker
    return {
        "total": dict(fleet.events.totals),
        "pid": os.getpid(),
        "clock": str(fleet.clock.value),
        "uptime": round(time.time() - fleet.started_at),
        "pool": _pool(worker.concurrency, fleet.events.totals.total()),
        "broker": _broker(fleet.broker_url, worker.visibility_timeout_s, fleet.keys.prefix),
        "prefetch_count": worker.concurrency,
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


def conf(fleet: Node, with_defaults: Any = False, **_: Any) -> dict[str, Any]:
    """The settings, under the names stock has for them; passwords masked."""
    worker = fleet.worker
    return {
        "broker_url": masked(fleet.broker_url),
        "result_backend": masked(worker.result_url),
        "broker_transport_options": {
            "visibility_timeout": worker.visibility_timeout_s,
            "global_keyprefix": fleet.keys.prefix,
        },
        "task_serializer": "json",
        "result_serializer": "json",
        "accept_content": ["json", "application/x-msgpack"],
        "timezone": "UTC",
        "enable_utc": True,
        "result_expires": worker.result_ttl_s,
        "task_acks_late": True,
        "worker_concurrency": worker.concurrency,
        "worker_send_task_events": fleet.events.enabled,
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


def report(fleet: Node) -> dict[str, str]:
    """What a bug report needs."""
    settings = "\n".join(f"{name}: {value!r}" for name, value in conf(fleet).items())
    bits, linkage = platform.architecture()
    return {
        "ok": (
            f"\nsoftware -> crucible:{crucible.__version__} py:{platform.python_version()}\n"
            f"            redis:{metadata.version('redis')}\n"
            f"platform -> system:{platform.system()} arch:{bits}, {linkage}\n"
            f"            kernel version:{platform.release()} "
            f"imp:{platform.python_implementation()}\n"
            f"settings -> transport:redis results:{masked(fleet.worker.result_url)}\n\n"
            f"{settings}\n"
        )
    }


def _resident_kb() -> float:
    with open("/proc/self/statm", encoding="ascii") as statm:  # noqa: PTH123 - a pseudo-file
        return int(statm.read().split()[1]) * _PAGE_KB


def memsample(fleet: Node, **_: Any) -> str:
    """Resident memory now."""
    return f"{_resident_kb() / 1024:.5g}MB"


def memdump(fleet: Node, samples: int = 10, **_: Any) -> str:
    """Resident memory now; earlier samples are not kept, monitoring does that."""
    return f"- rss (sample): {memsample(fleet)}\n"


def objgraph(fleet: Node, num: int = 200, max_depth: int = 10, type: str = "Request") -> None:  # noqa: A002
    """Not offered; the reply is that of a stock worker without the library."""
    raise ImportError("Requires the objgraph library")

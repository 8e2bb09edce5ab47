"""The walls of a lane: its container's, and what process 1 puts around each program. Pure.

Inside, the rules are those of ``sandbox_options`` once more. What differs outside is what process 1
needs to set them up, and has only until it is in a user namespace of its own: the rights to give
itself a range of user ids, and system calls for namespaces and mounts.
"""

from __future__ import annotations

import functools
import json
import secrets
from typing import TYPE_CHECKING, Any

from crucible.executor.nested.syscall_filter import filter_bytes
from crucible.executor.sandbox_options import (
    MASKED_PATHS,
    MAX_PTYS,
    SHM_BYTES,
    create_body,
    seccomp_profile,
    update_body,
)

if TYPE_CHECKING:
    from crucible.executor.config import ExecutorConfig
    from crucible.models import Limits

#: Processes of a lane that are no program's: process 1, the spawner, and process 1 of the program's
#: namespaces.
LANE_PIDS = 3
#: Memory of a lane on top of the limit: about what its processes have more than the one process 1
#: of a container of one program.
LANE_BYTES = 2 << 20
#: Calls that process 1 may make and a program may not.
SETTING_UP = (
    "capset",
    "clone",
    "mount",
    "pivot_root",
    "prctl",
    "seccomp",
    "setns",
    "umount2",
    "unshare",
)
#: Where the ranges of user ids lie: below 2**31, above what distributions hand out to containers.
#: Two lanes of any worker have the same with a chance of one in a hundred thousand.
FIRST_RANGE, RANGES, RANGE_IDS = 0x70000000, 130_000, 2_048
#: What is hidden of ``/proc`` in any sandbox; of ``/sys`` a lane shows only what it names.
HIDDEN_PATHS = tuple(path for path in MASKED_PATHS if path.startswith("/proc/"))
#: Of what the engine has read-only below ``/proc``: the rest is for the host's root alone to write,
#: and nobody in a lane is that. Here some files are for the root of their namespace.
READ_ONLY_PATHS = ("/proc/sys", "/proc/sysrq-trigger")
#: Programs of a lane share a network of nothing but loopback. Connections that have ended leave
#: no trace in it.
SYSCTLS = {"net.ipv4.tcp_max_tw_buckets": "0"}
#: AppArmor's profile for lanes, where the engine has AppArmor; ``crucible-lane.apparmor``.
APPARMOR_PROFILE = "crucible-lane"
_MIB = 1 << 20


@functools.cache
def lane_seccomp_profile() -> str:
    """The system calls of a lane: those of any sandbox, and those for setting up."""
    profile = json.loads(seccomp_profile())
    for rule in profile["syscalls"]:
        rule["names"] = [name for name in rule["names"] if name not in SETTING_UP]
    rules = [rule for rule in profile["syscalls"] if rule["names"]]
    rules.append({"names": list(SETTING_UP), "action": "SCMP_ACT_ALLOW"})
    return json.dumps({**profile, "syscalls": rules}, separators=(",", ":"))


def lane_body(
    limits: Limits,
    config: ExecutorConfig,
    image_id: str,
    *,
    preload: tuple[str, ...] = (),
    apparmor: bool = False,
) -> dict[str, Any]:
    """The body of ``POST /containers/create`` for a lane.

    Args:
        limits: what its programs may use, one at a time.
        config: runtime, owner.
        image_id: the image by digest.
        preload: Python modules that the supervisor imports before it is ready.
        apparmor: the engine confines containers by AppArmor, whose default forbids mounts.
    """
    body = create_body(limits, config, uid=0, image_id=image_id, preload=preload)
    host = body["HostConfig"]
    host["CapAdd"] = ["SETGID", "SETUID"]
    # The kernel allows a new /proc only where all of one is seen; each program's is masked anew.
    host["MaskedPaths"] = []
    host["ReadonlyPaths"] = []
    host.update(update_body(limits, LANE_PIDS, LANE_BYTES))
    host["SecurityOpt"] = ["no-new-privileges:true", f"seccomp={lane_seccomp_profile()}"]
    if apparmor:
        host["SecurityOpt"].append(f"apparmor={APPARMOR_PROFILE}")
    host["Sysctls"] = {**host.get("Sysctls", {}), **SYSCTLS}
    host.pop("Mounts", None)
    # Each program gets its own; process 1 needs none.
    del host["Tmpfs"]
    return body


def lane_setup(disk_mb: int, machine: str, programs: int) -> dict[str, Any]:
    """The settings of process 1 of a lane, which it gets before its first program.

    Args:
        disk_mb: size of each program's temporary files, in MiB.
        machine: architecture of the engine's host, as its kernel names it.
        programs: how many it serves before it ends.

    Raises:
        ExecutorRefused: the architecture is not supported.
    """
    disk_bytes = disk_mb * _MIB
    return {
        "first_id": FIRST_RANGE + secrets.randbelow(RANGES) * RANGE_IDS,
        "programs": programs,
        "overhead_bytes": LANE_BYTES,
        "filter": filter_bytes(seccomp_profile(), machine),
        "hidden": [path.encode() for path in HIDDEN_PATHS],
        "read_only": [path.encode() for path in READ_ONLY_PATHS],
        "tmp": _tmpfs(disk_bytes, max(1024, disk_mb * 256)),
        "pts": f"newinstance,ptmxmode=0666,mode=0620,max={MAX_PTYS}".encode(),
        "shm": _tmpfs(min(SHM_BYTES, disk_bytes), 1024),
    }


def _tmpfs(size_bytes: int, inodes: int) -> bytes:
    return f"size={size_bytes},nr_inodes={inodes},mode=1777".encode()

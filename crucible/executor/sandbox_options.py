"""From limits to the body of a container-create call: every rule of the jail in one place.

Pure: the same arguments give the same body. What the body promises is tested without an engine in
``tests/unit/executor/test_sandbox_options.py`` and with one in ``tests/security``.
"""

from __future__ import annotations

import functools
import importlib.resources
import json
from typing import TYPE_CHECKING, Any

from crucible.executor import jail
from crucible.executor.frames import base_env
from crucible.executor.gpus import device_requests
from crucible.executor.jail.account import ACCOUNT
from crucible.executor.jail.kernel_memory import TCP_BUFFER_BYTES

if TYPE_CHECKING:
    from crucible.executor.config import ExecutorConfig
    from crucible.models import Limits

LABEL = "crucible"
#: The supervisor is a process too, and so is the fork of it that becomes the program.
SUPERVISOR_PIDS = 1
SHM_BYTES = 16 << 20
_MIB = 1 << 20
#: Of the sandbox's own network namespace. Connections that were not accepted, and closed ones that
#: wait for their last packet, are kernel memory as well, and no descriptor limits them.
SYSCTLS = {
    "net.core.somaxconn": "128",
    "net.ipv4.tcp_max_tw_buckets": "1024",
    "net.ipv4.tcp_rmem": f"4096 16384 {TCP_BUFFER_BYTES}",
    "net.ipv4.tcp_wmem": f"4096 16384 {TCP_BUFFER_BYTES}",
}
#: Pseudo-terminals of one sandbox. The kernel has 4096 for all of the host.
MAX_PTYS = 32
#: What the engine hides by itself, and ``/proc/pressure``: any process may set triggers there,
#: each of which has the kernel look several times a second.
MASKED_PATHS = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/pressure",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
)
READONLY_PATHS = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
#: Programs get user ids of their own, so that per-user kernel quotas (pending signals, inotify,
#: pipe pages, message queues) of one sandbox cannot be used up by another. Below 65536, so that
#: they exist in an engine with user namespaces too.
FIRST_UID, UID_COUNT = 20_000, 20_000


@functools.cache
def seccomp_profile() -> str:
    """The system calls a sandbox may make, in the engine's JSON, without its spaces.

    The engine stores and reads it, with everything else about the container, at every step.
    """
    text = (
        importlib.resources.files(__package__).joinpath("sandbox_seccomp.json").read_text("utf-8")
    )
    return json.dumps(json.loads(text), separators=(",", ":"))


def _tmpfs(size_bytes: int, inodes: int, *, uid: int, execute: bool) -> str:
    return (
        f"rw,nosuid,nodev,{'exec' if execute else 'noexec'},size={size_bytes},"
        f"nr_inodes={inodes},mode=1777,uid={uid},gid={uid}"
    )


def _terminals() -> dict[str, Any]:
    """A file system of pseudo-terminals with a limit; the engine's own of each sandbox has none."""
    options = f"nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,max={MAX_PTYS}"
    driver = {"type": "devpts", "device": "devpts", "o": options}
    return {
        "Type": "volume",
        "Target": "/dev/pts",
        "VolumeOptions": {
            "NoCopy": True,
            "DriverConfig": {"Name": "local", "Options": driver},
        },
    }


def host_config(limits: Limits, config: ExecutorConfig, *, uid: int) -> dict[str, Any]:
    """The jail proper: what the container may reach and use."""
    disk_bytes = limits.disk_mb * _MIB
    memory_bytes = limits.memory_mb * _MIB
    host: dict[str, Any] = {
        "AutoRemove": False,
        "Binds": [],
        "CapAdd": [],
        "CapDrop": ["ALL"],
        "CgroupnsMode": "private",
        "Init": False,
        "IpcMode": "private",
        "LogConfig": {"Type": "none", "Config": {}},
        "MaskedPaths": list(MASKED_PATHS),
        "Memory": memory_bytes,
        "MemorySwap": memory_bytes,
        "NanoCpus": int(config.cpus * 1e9),
        "NetworkMode": "none",
        "PidsLimit": limits.pids + SUPERVISOR_PIDS,
        "Privileged": False,
        "ReadonlyPaths": list(READONLY_PATHS),
        "ReadonlyRootfs": True,
        "RestartPolicy": {"Name": "no"},
        "SecurityOpt": ["no-new-privileges:true", f"seccomp={seccomp_profile()}"],
        "Sysctls": dict(SYSCTLS),
        "Tmpfs": {
            "/tmp": _tmpfs(disk_bytes, max(1024, limits.disk_mb * 256), uid=uid, execute=True),  # noqa: S108
            "/dev/shm": _tmpfs(min(SHM_BYTES, disk_bytes), 1024, uid=uid, execute=False),  # noqa: S108
            ACCOUNT: _tmpfs(16384, 8, uid=uid, execute=False),
        },
        "Ulimits": [
            {"Name": "core", "Soft": 0, "Hard": 0},
            {"Name": "nofile", "Soft": 256, "Hard": 256},
            # One page more than the disk, so that a full disk is ENOSPC and not a signal.
            {"Name": "fsize", "Soft": disk_bytes + 4096, "Hard": disk_bytes + 4096},
            {"Name": "memlock", "Soft": 65536, "Hard": 65536},
            {"Name": "msgqueue", "Soft": 65536, "Hard": 65536},
            # Queued signals and timers are kernel memory of the user.
            {"Name": "sigpending", "Soft": 4096, "Hard": 4096},
            # Process 1 raises it for programs, as far as their memory goes.
            {"Name": "stack", "Soft": 8 * _MIB, "Hard": -1},
        ],
    }
    if config.runtime:
        host["Runtime"] = config.runtime
    if requests := device_requests(config.gpus):
        host["DeviceRequests"] = requests
    # gVisor's terminals are its own; a file system of the host's kernel would hide them.
    if "runsc" not in (config.runtime or ""):
        host["Mounts"] = [_terminals()]
    return host


def update_body(
    limits: Limits, overhead_pids: int = SUPERVISOR_PIDS, overhead_bytes: int = 0
) -> dict[str, Any]:
    """The body of ``POST /containers/{id}/update`` that gives a container other limits.

    Args:
        limits: what a program may use.
        overhead_pids: processes that are no program's.
        overhead_bytes: memory that is no program's.
    """
    memory_bytes = limits.memory_mb * _MIB + overhead_bytes
    return {
        "Memory": memory_bytes,
        "MemorySwap": memory_bytes,
        "PidsLimit": limits.pids + overhead_pids,
    }


def create_body(
    limits: Limits,
    config: ExecutorConfig,
    *,
    uid: int,
    image_id: str,
    preload: tuple[str, ...] = (),
) -> dict[str, Any]:
    """The body of ``POST /containers/create`` for one sandbox.

    Args:
        limits: what its programs may use.
        config: runtime, owner.
        uid: user and group id of everything in it; not root's.
        image_id: the image by digest, so that what is run is what was looked at.
        preload: Python modules that the supervisor imports before it is ready.
    """
    return {
        "Image": image_id,
        "Entrypoint": ["/usr/bin/python3"],
        "Cmd": ["-c", jail.BOOTSTRAP, *preload],
        "User": f"{uid}:{uid}",
        "WorkingDir": "/",
        "Hostname": "sandbox",
        "Env": [f"{name}={value}" for name, value in base_env(config.cpus).items()],
        "Labels": {LABEL: config.owner},
        "AttachStdin": True,
        "AttachStdout": True,
        "AttachStderr": True,
        "OpenStdin": True,
        # The supervisor's input is closed when the attached process exits, and it exits too.
        "StdinOnce": True,
        "Tty": False,
        "NetworkDisabled": True,
        "StopSignal": "SIGKILL",
        "HostConfig": host_config(limits, config, uid=uid),
    }

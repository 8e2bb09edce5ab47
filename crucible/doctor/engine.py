"""Judges a Docker engine's ``/version`` and ``/info``; no I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crucible.doctor.check import Check, failed, passed, warned
from crucible.doctor.escapes import judge_component, numbers

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

#: The first API version with everything a sandbox needs (Docker 20.10).
MIN_API = (1, 41)
#: Limits the engine must be able to set: key in ``/info``, and the cgroup controller behind it.
_CONTROLLERS = {"MemoryLimit": "memory", "PidsLimit": "pids", "CpuCfsQuota": "cpu"}
_UPGRADE = "install Docker Engine 20.10 or newer"


def judge_version(version: Mapping[str, Any], info: Mapping[str, Any]) -> Iterator[Check]:
    """Engine, API and runtime versions."""
    api = str(version.get("ApiVersion", ""))
    known = f"API {api}, sandboxes need {MIN_API[0]}.{MIN_API[1]}"
    if numbers(api) >= MIN_API:
        yield passed("Docker API", known)
    else:
        yield failed("Docker API", known, _UPGRADE)
    authz = bool((info.get("Plugins") or {}).get("Authorization"))
    yield judge_component("Engine", str(version.get("Version", "")), authz=authz)
    for component in version.get("Components") or ():
        name = str(component.get("Name", ""))
        if name in {"containerd", "runc", "crun"}:
            yield judge_component(name, _told_version(component))


def _told_version(component: Mapping[str, Any]) -> str:
    """A component's version; Debian puts its package version where upstream has the commit."""
    version = str(component.get("Version", ""))
    commit = str((component.get("Details") or {}).get("GitCommit", ""))
    return commit if commit.startswith(version) and version else version


def judge_control_groups(info: Mapping[str, Any]) -> Check:
    """Whether every limit of a sandbox can be enforced."""
    name = "Control groups"
    version = f"version {info.get('CgroupVersion') or '1'}"
    missing = [label for key, label in _CONTROLLERS.items() if not info.get(key)]
    if missing:
        return failed(
            name,
            f"{version}, without {', '.join(missing)}",
            f"enable the {', '.join(missing)} controllers (boot with cgroup_enable=memory, "
            "or let the engine's service delegate them)",
        )
    # Version 2 accounts swap separately and can always forbid it.
    if not info.get("SwapLimit") and str(info.get("CgroupVersion")) != "2":
        return warned(
            name,
            f"{version}, swap is not accounted: a program may use swap beyond its memory limit",
            "boot with swapaccount=1, or turn swap off",
        )
    return passed(name, f"{version} with memory, pids, cpu")


def judge_seccomp(info: Mapping[str, Any]) -> Check:
    """Whether system calls are filtered."""
    name = "System call filter"
    remedy = "use a kernel and an engine with seccomp, and its default profile"
    for option in info.get("SecurityOptions") or ():
        parts = dict(part.partition("=")[::2] for part in str(option).split(","))
        if parts.get("name") == "seccomp":
            profile = parts.get("profile", "default")
            if profile == "unconfined":
                return failed(name, "seccomp profile is unconfined", remedy)
            return passed(name, f"seccomp, profile {profile}")
    return failed(name, "the engine has no seccomp", remedy)


def judge_runtime(info: Mapping[str, Any], wanted: str) -> Check:
    """Whether the engine has the runtime that the settings name."""
    name = "Container runtime"
    default = str(info.get("DefaultRuntime", ""))
    known = sorted(key for key in info.get("Runtimes") or {} if not key.startswith("io.containerd"))
    if wanted and wanted not in known:
        return failed(
            name,
            f"the engine has no runtime {wanted}; it has {', '.join(known) or 'none'}",
            f"register {wanted} in /etc/docker/daemon.json, or unset CRUCIBLE_DOCKER_RUNTIME",
        )
    return passed(name, wanted or f"{default} (the engine's default)")


def judge_storage(info: Mapping[str, Any]) -> Check:
    """Whether starting a container copies the whole image."""
    driver = str(info.get("Driver", ""))
    if driver == "vfs":
        return warned(
            "Storage driver",
            "vfs copies the image for every container",
            "use overlay2: put the engine's data on ext4 or xfs, not on another overlay",
        )
    return passed("Storage driver", driver)

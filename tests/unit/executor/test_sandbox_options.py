"""What a container is created with: every rule of the jail, without an engine."""

from __future__ import annotations

import ast
import json
import marshal
import subprocess
import sys
from typing import Any

import pytest

from crucible.executor import jail
from crucible.executor.config import ExecutorConfig
from crucible.executor.jail.kernel_memory import TCP_BUFFER_BYTES
from crucible.executor.sandbox_options import create_body, seccomp_profile, update_body
from crucible.models import Limits

LIMITS = Limits(memory_mb=100, pids=10, disk_mb=7)


def body(**changes: Any) -> dict[str, Any]:
    config = ExecutorConfig(owner="me", **changes)
    return create_body(LIMITS, config, uid=23_456, image_id="sha256:1")


def test_nothing_is_privileged() -> None:
    """No privilege, no capability, no way to gain one, not root, no mount of the host."""
    host = body()["HostConfig"]
    assert host["Privileged"] is False
    assert (host["CapDrop"], host["CapAdd"]) == (["ALL"], [])
    assert "no-new-privileges:true" in host["SecurityOpt"]
    assert host["Binds"] == []
    assert not {"Devices", "VolumesFrom", "PidMode", "UsernsMode"} & host.keys()
    # A file system made for this container; no "Source" of the host's.
    (terminals,) = host["Mounts"]
    assert (terminals["Type"], terminals["Target"]) == ("volume", "/dev/pts")
    assert "Source" not in terminals
    assert terminals["VolumeOptions"]["DriverConfig"]["Options"]["type"] == "devpts"
    assert body()["User"] == "23456:23456"


def test_nothing_is_shared() -> None:
    """No network, private IPC and process namespaces, a read-only root, no logs."""
    made = body()
    host = made["HostConfig"]
    assert (host["NetworkMode"], made["NetworkDisabled"]) == ("none", True)
    assert (host["IpcMode"], host["CgroupnsMode"]) == ("private", "private")
    assert host["ReadonlyRootfs"] is True
    assert host["LogConfig"]["Type"] == "none"
    assert made["Labels"] == {"crucible": "me"}


def test_limits_become_bounds() -> None:
    """Memory has no swap on top, and pids, disk, inodes and files are all bounded."""
    host = body()["HostConfig"]
    assert host["Memory"] == host["MemorySwap"] == 100 << 20
    assert host["PidsLimit"] == 11
    for options in host["Tmpfs"].values():
        names = dict(item.partition("=")[::2] for item in options.split(","))
        assert 0 < int(names["size"]) <= 7 << 20
        assert 0 < int(names["nr_inodes"]) <= 16_384
        assert {"nosuid", "nodev"} <= names.keys()
    soft = {limit["Name"]: limit["Soft"] for limit in host["Ulimits"]}
    assert soft["core"] == 0
    assert soft["nofile"] <= 1024
    assert soft["fsize"] > 7 << 20
    assert update_body(LIMITS)["Memory"] == update_body(LIMITS)["MemorySwap"] == 100 << 20


def test_runtime_and_image_are_chosen() -> None:
    """The runtime is left to the engine unless one is named; the image is named by digest."""
    assert "Runtime" not in body()["HostConfig"]
    assert body(runtime="runsc")["HostConfig"]["Runtime"] == "runsc"
    assert "Mounts" not in body(runtime="runsc")["HostConfig"], "its terminals are its own"
    assert body()["Image"] == "sha256:1"


def test_what_no_control_group_counts_is_small() -> None:
    """Buffers, queues and terminals of a sandbox have limits; triggers of the host are hidden."""
    host = body()["HostConfig"]
    for name in ("net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem"):
        assert int(host["Sysctls"][name].split()[-1]) == TCP_BUFFER_BYTES
    assert int(host["Sysctls"]["net.core.somaxconn"]) <= 128
    options = host["Mounts"][0]["VolumeOptions"]["DriverConfig"]["Options"]["o"].split(",")
    assert {"newinstance", "nosuid", "noexec", "max=32"} <= set(options)
    assert "/proc/pressure" in host["MaskedPaths"]
    assert {"/proc/kcore", "/proc/keys", "/sys/firmware"} <= set(host["MaskedPaths"])
    assert {"/proc/sys", "/proc/sysrq-trigger"} <= set(host["ReadonlyPaths"])


def _rules(call: str) -> list[dict[int, int]]:
    """Arguments by index that each rule of a call asks for."""
    rules = [rule for rule in json.loads(seccomp_profile())["syscalls"] if call in rule["names"]]
    return [{arg["index"]: arg["value"] for arg in rule.get("args", [])} for rule in rules]


def test_socket_options_are_a_list() -> None:
    """Options that enlarge buffers, load filters or reach other code of the kernel are refused."""
    allowed = {(rule[1], rule[2]) for rule in _rules("setsockopt")}
    assert {(1, 2), (1, 9), (1, 15), (6, 1), (41, 26)} <= allowed
    buffers, filters = {7, 8, 32, 33}, {26, 50, 51, 52}
    assert not {(1, option) for option in buffers | filters | {60}} & allowed
    assert not {(6, option) for option in (13, 14, 19, 31, 38)} & allowed


def test_no_filter_can_be_loaded() -> None:
    """PR_SET_SECCOMP is no process control that is allowed, and there is no other way."""
    (up_to, *others) = [rule[0] for rule in _rules("prctl")]
    assert up_to == 21, "the last before PR_SET_SECCOMP"
    assert {36, 38} <= set(others)
    assert not {22, 35, 62} & set(others)
    assert _rules("seccomp") == []


@pytest.mark.parametrize(
    "name",
    [
        "keyctl", "add_key", "bpf", "io_uring_setup", "userfaultfd", "perf_event_open", "unshare",
        "mount", "setns", "pivot_root", "ptrace", "process_vm_readv", "process_vm_writev", "chroot",
        "init_module", "kexec_load", "reboot", "swapon", "seccomp", "open_by_handle_at", "quotactl",
        "pidfd_getfd", "fanotify_init", "syslog", "acct", "iopl", "ioperm", "kcmp", "move_pages",
    ],
)  # fmt: skip
def test_the_filter_refuses(name: str) -> None:
    """A call that enlarges the kernel's attack surface is on no list of allowed ones."""
    profile = json.loads(seccomp_profile())
    assert profile["defaultAction"] == "SCMP_ACT_ERRNO"
    for rule in profile["syscalls"]:
        assert rule["action"] == "SCMP_ACT_ERRNO" or name not in rule["names"]


def test_a_supervisor_is_compiled_once_an_image() -> None:
    """What one image's interpreter compiled goes to sandboxes of that image only."""
    jail.remember("sha256:unit", b"code")
    jail.remember("sha256:unit", b"later")
    assert jail.script("sha256:unit") == b"\0\0\0\4code"
    assert marshal.loads(jail.script("sha256:other")[4:]) == jail.source()
    assert marshal.loads(jail.script("sha256:unit", jail.LANE)[4:]) == jail.source(jail.LANE)


@pytest.mark.parametrize("cut", [0, 3, 4, 60])
def test_a_supervisor_without_its_script_ends(cut: int) -> None:
    """A host that hangs up before it has sent the whole script leaves no process 1 behind."""
    data = jail.script("sha256:other")[:cut]
    command = [sys.executable, "-c", jail.BOOTSTRAP]
    ended = subprocess.run(command, input=data, capture_output=True, timeout=30, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, b"", b"")


def test_sockets_are_of_three_families() -> None:
    """Only local and internet sockets can be made at all."""
    profile = json.loads(seccomp_profile())
    rules = [rule for rule in profile["syscalls"] if "socket" in rule["names"]]
    families = {rule["args"][0]["value"] for rule in rules}
    assert all(rule["args"][0]["op"] == "SCMP_CMP_EQ" for rule in rules)
    assert families == {1, 2, 10}


def test_the_supervisor_is_one_script_of_built_in_modules() -> None:
    """What process 1 runs imports nothing that has to be searched for, except ctypes' core."""
    tree = ast.parse(jail.source())
    imported = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            imported.add(str(node.module))
    slim = {"_ctypes", "_signal", "atexit", "errno", "fcntl", "marshal", "posix", "select", "sys",
            "time", "typing", "gc", "resource"}  # fmt: skip
    assert imported <= slim
    assert len(jail.BOOTSTRAP) < 1000, "the engine copies it at every step of a start"

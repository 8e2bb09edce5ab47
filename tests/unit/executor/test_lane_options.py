"""The walls of a lane, as the engine and process 1 are told of them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from crucible.errors import RequirementError
from crucible.executor import ExecutorConfig, jail
from crucible.executor.engine import EngineHost
from crucible.executor.nested.options import (
    APPARMOR_PROFILE,
    LANE_BYTES,
    LANE_PIDS,
    SETTING_UP,
    lane_body,
    lane_seccomp_profile,
    lane_setup,
)
from crucible.executor.nested.probe import apparmor_profile
from crucible.executor.nested.requirements import (
    SYMPTOMS,
    NestedUnavailable,
    check_host,
    explain,
    nested_unavailable,
)
from crucible.executor.sandbox_options import create_body, seccomp_profile
from crucible.models import Limits

LIMITS = Limits(memory_mb=100, pids=30, disk_mb=8)
CONFIG = ExecutorConfig(owner="me")


def body(**given: Any) -> dict[str, Any]:
    return lane_body(LIMITS, CONFIG, "sha256:1", **given)


def test_a_lane_differs_from_a_container_in_what_it_must() -> None:
    """Two rights, no masks, its own filter, its three processes; all other walls are the same."""
    lane = body()["HostConfig"]
    container = create_body(LIMITS, CONFIG, uid=0, image_id="sha256:1")["HostConfig"]
    changed = {key for key in lane.keys() | container.keys() if lane.get(key) != container.get(key)}
    assert changed <= {
        "CapAdd", "MaskedPaths", "Memory", "MemorySwap", "Mounts", "PidsLimit", "ReadonlyPaths",
        "SecurityOpt", "Sysctls", "Tmpfs",
    }  # fmt: skip
    assert (lane["CapDrop"], lane["CapAdd"]) == (["ALL"], ["SETGID", "SETUID"])
    assert lane["PidsLimit"] == 30 + LANE_PIDS
    assert lane["Memory"] == lane["MemorySwap"] == (100 << 20) + LANE_BYTES
    assert lane["ReadonlyRootfs"]
    assert not lane["Privileged"]
    assert "no-new-privileges:true" in lane["SecurityOpt"]
    assert (lane["MaskedPaths"], lane["ReadonlyPaths"]) == ([], [])


def test_a_lane_imports_what_its_environment_says() -> None:
    """As the supervisor of a container does, before anything of a tenant is there."""
    assert body(preload=("numpy",))["Cmd"] == ["-c", jail.BOOTSTRAP, "numpy"]


def test_apparmor_is_told_only_where_there_is_one() -> None:
    """The profile is named as the file that is shipped names it."""
    assert f"apparmor={APPARMOR_PROFILE}" in body(apparmor=True)["HostConfig"]["SecurityOpt"]
    assert not any("apparmor" in option for option in body()["HostConfig"]["SecurityOpt"])
    assert f"profile {APPARMOR_PROFILE} " in apparmor_profile()


def test_a_lanes_filter_is_a_sandboxs_and_what_sets_up() -> None:
    """Not one call more than those that process 1 makes namespaces and mounts with."""

    def names(profile: str) -> set[str]:
        rules = json.loads(profile)["syscalls"]
        return {name for r in rules if r["action"] == "SCMP_ACT_ALLOW" for name in r["names"]}

    assert names(lane_seccomp_profile()) - names(seccomp_profile()) <= set(SETTING_UP)
    assert json.loads(lane_seccomp_profile())["defaultAction"] == "SCMP_ACT_ERRNO"


def test_programs_have_caps_on_bytes_and_on_names() -> None:
    """Each file system of a program has a size and a number of files, as a container's have."""
    setup = lane_setup(8, "x86_64", 64)
    assert setup["tmp"] == b"size=8388608,nr_inodes=2048,mode=1777"
    assert setup["shm"] == b"size=8388608,nr_inodes=1024,mode=1777"
    assert setup["programs"] == 64


def test_two_lanes_have_different_ids() -> None:
    """The ranges of user ids are drawn from many, and never reach the host's own."""
    firsts = {lane_setup(8, "x86_64", 64)["first_id"] for _ in range(50)}
    assert len(firsts) > 40
    assert all(0x70000000 <= first < 2**31 - 2048 for first in firsts)


def test_the_parts_of_a_lane_make_one_script() -> None:
    """It compiles, and starts as a lane and not as a sandbox of one program."""
    source = jail.source(jail.LANE)
    compile(source, "lane", "exec")
    assert "_request = boot_lane()" in source
    assert "_request = boot()" not in source


COMPLAINTS = {
    "a sandbox did not come up: unshare 268435456: No space left on device": "max_user_namespaces",
    "a sandbox did not come up: unshare 268435456: Operation not permitted": "unprivileged_userns",
    "a sandbox did not come up: unshare 268435456: Invalid argument": "no user namespaces",
    "a sandbox did not come up: mount none / None 278528 None: Permission denied": "AppArmor",
    "a sandbox did not come up: mount proc /proc proc 14 None: Operation not permitted": "/proc",
    "start sandbox: apparmor failed to apply profile crucible-lane: no such file": "not loaded",
    "a sandbox did not come up: prctl 22 2: Invalid argument": "system call filters",
}


@pytest.mark.parametrize("complaint", COMPLAINTS)
def test_what_is_missing_is_named(complaint: str) -> None:
    """A lane that does not come up says which requirement is missing, and what to type."""
    missing = explain(complaint)
    assert missing is not None
    assert COMPLAINTS[complaint] in missing.message
    assert missing.remedy


@pytest.mark.parametrize(
    "complaint", ["no answer in 15 s", "a sandbox did not come up in time", "no such image"]
)
def test_other_trouble_is_not_taken_for_it(complaint: str) -> None:
    """A busy engine is no machine that cannot."""
    assert explain(complaint) is None


def test_a_refusal_says_the_same_after_retries() -> None:
    """The task that met it names the field and the cause, however often it was tried."""
    refusal = nested_unavailable(RequirementError("no namespaces", "boot another"))
    again = refusal.after(2)
    assert str(again) == "isolation: nested cannot be had here: no namespaces"
    assert again.args == (str(refusal), 2)


def test_every_cause_has_a_remedy() -> None:
    """Nobody is told only that something is wrong."""
    assert all(symptom.cause and symptom.remedy for symptom in SYMPTOMS)


@pytest.mark.parametrize(("machine", "runtime"), [("x86_64", "runsc"), ("riscv64", "")])
def test_some_machines_are_known_not_to_do(machine: str, runtime: str) -> None:
    """gVisor and architectures without numbers are refused before anything is tried."""
    with pytest.raises(NestedUnavailable):
        check_host(EngineHost(machine=machine, apparmor=False), runtime)
    check_host(EngineHost(machine="x86_64", apparmor=True), "runc")

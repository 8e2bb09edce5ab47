"""The filter a program of a lane gets says what the profile says, for every call there is."""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crucible.errors import ExecutorRefused
from crucible.executor.nested.syscall_filter import (
    MACHINES,
    Instruction,
    filter_bytes,
    syscall_numbers,
)
from crucible.executor.sandbox_options import seccomp_profile

ALLOWED, KILLED = 0x7FFF0000, 0x80000000
ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
CLONE_NEWUSER = 0x10000000


def refused(errno: int = 1) -> int:
    """What a filter answers for a call that fails with ``errno``."""
    return 0x00050000 | errno


def answer(machine: str, number: int, *arguments: int, architecture: int | None = None) -> int:
    """Run the filter over a call as the kernel does."""
    code = [
        Instruction(*step) for step in struct.iter_unpack("=HBBI", filter_bytes(PROFILE, machine))
    ]
    padded = [*arguments, *[0] * (6 - len(arguments))]
    arch = ARCHITECTURES[machine] if architecture is None else architecture
    data = struct.pack("<IIQ6Q", number, arch, 0, *padded)
    at = value = 0
    while True:
        step = code[at]
        at += 1
        match step.code:
            case 0x20:
                value = int.from_bytes(data[step.constant : step.constant + 4], "little")
            case 0x54:
                value &= step.constant
            case 0x05:
                at += step.constant
            case 0x06:
                return step.constant
            case 0x15 | 0x25 | 0x35:
                holds = {
                    0x15: value == step.constant,
                    0x25: value > step.constant,
                    0x35: value >= step.constant,
                }[step.code]
                at += step.if_true if holds else step.if_false
            case _:
                raise AssertionError(f"no such instruction: {step}")


PROFILE = seccomp_profile()
RULES: list[dict[str, Any]] = json.loads(PROFILE)["syscalls"]


def expected(machine: str, number: int, arguments: list[int]) -> int:
    """What the profile says of a call, rule by rule."""
    names = {name for name, known in syscall_numbers(machine).items() if known == number}
    found = [rule for rule in RULES if names & set(rule["names"])]
    found.sort(key=lambda rule: bool(rule.get("args")))
    for rule in found:
        if all(_holds(condition, arguments) for condition in rule.get("args", ())):
            allowed = rule["action"] == "SCMP_ACT_ALLOW"
            return ALLOWED if allowed else refused(rule.get("errnoRet", 1))
    return refused()


def _holds(condition: dict[str, Any], arguments: list[int]) -> bool:
    value: int = condition["value"]
    given_value = arguments[condition["index"]]
    holds: dict[str, bool] = {
        "SCMP_CMP_EQ": given_value == value,
        "SCMP_CMP_LE": given_value <= value,
        "SCMP_CMP_MASKED_EQ": given_value & value == condition.get("valueTwo", 0),
    }
    return holds[condition["op"]]


@pytest.mark.parametrize("machine", MACHINES)
def test_every_number_is_decided_as_the_profile_says(machine: str) -> None:
    """Known and unknown numbers, with arguments of nothing."""
    for number in range(600):
        assert answer(machine, number) == expected(machine, number, [0] * 6), number


words = st.one_of(
    st.integers(0, 2**64 - 1),
    st.integers(0, 64),
    st.sampled_from([1 << 32, (1 << 32) + 1, 2**32 - 1, 0x6FFF, 0o10644, CLONE_NEWUSER]),
)
conditional = sorted({name for rule in RULES if rule.get("args") for name in rule["names"]})


@given(
    machine=st.sampled_from(MACHINES),
    name=st.sampled_from(conditional),
    arguments=st.lists(words, min_size=6, max_size=6),
)
def test_conditions_look_at_all_of_an_argument(
    machine: str, name: str, arguments: list[int]
) -> None:
    """The upper half of an argument counts too, and every rule of a call is tried."""
    number = syscall_numbers(machine).get(name)
    if number is not None:
        assert answer(machine, number, *arguments) == expected(machine, number, arguments)


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("name", ["unshare", "mount", "umount2", "setns", "pivot_root", "ptrace"])
def test_what_a_lane_may_a_program_may_not(machine: str, name: str) -> None:
    """Calls that make namespaces and mounts are refused."""
    assert answer(machine, syscall_numbers(machine)[name]) == refused()


@pytest.mark.parametrize("machine", MACHINES)
def test_no_new_namespaces(machine: str) -> None:
    """A thread may be made, a namespace may not, and where that cannot be seen the call is none."""
    numbers = syscall_numbers(machine)
    assert answer(machine, numbers["clone"], 0x3D0F00) == ALLOWED
    assert answer(machine, numbers["clone"], CLONE_NEWUSER | 17) == refused()
    assert answer(machine, numbers["clone3"]) == refused(38)


def test_other_interfaces_of_the_machine_are_shut() -> None:
    """Calls by the numbers of 32-bit programs, and of the x32 interface, get nowhere."""
    assert answer("x86_64", 0, architecture=0x40000003) == KILLED
    assert answer("x86_64", 0x40000000) == refused(38)
    assert answer("x86_64", 0x40000000 | 165) == refused(38)


def test_an_unknown_machine_is_refused() -> None:
    """Without numbers there is no filter, and without a filter no program."""
    with pytest.raises(ExecutorRefused, match="riscv64"):
        filter_bytes(PROFILE, "riscv64")


@pytest.mark.parametrize(
    "rule",
    [
        {"names": ["read"], "action": "SCMP_ACT_TRACE"},
        {
            "names": ["read"],
            "action": "SCMP_ACT_ALLOW",
            "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_NE"}],
        },
    ],
)
def test_what_is_not_understood_is_no_filter(rule: dict[str, Any]) -> None:
    """A profile with more than is known here is refused whole, not read in part."""
    profile = json.dumps({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [rule]})
    with pytest.raises(ValueError, match="not known"):
        filter_bytes(profile, "x86_64")

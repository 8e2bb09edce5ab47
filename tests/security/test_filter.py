"""The system-call filter does in the kernel what it says in its file, argument by argument.

Between the two are an engine, a runtime and libseccomp, which turns lists of rules into one program
that shares what it takes for equal. Version 2.5 once shared a test of one argument with a test of
another: ``socket(AF_INET, SOCK_DGRAM, IPPROTO_ICMP)`` went through, because a list of ``prctl``
options ended as the list of socket families did.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from siege import attack, besieged_executor, py

from crucible.executor.sandbox_options import seccomp_profile
from crucible.models import Verdict

if TYPE_CHECKING:
    from crucible.executor.docker import DockerExecutor

pytestmark = [pytest.mark.docker, pytest.mark.asyncio(loop_scope="module")]

executor = besieged_executor

RULES: list[dict[str, Any]] = json.loads(seccomp_profile())["syscalls"]
NUMBERS = {
    "socket": 41, "setsockopt": 54, "mknod": 133, "personality": 135, "setpriority": 141,
    "prctl": 157, "ioprio_set": 251, "mknodat": 259, "prlimit64": 302,
}  # fmt: skip
#: What does not fit a C int, and so is another number to the kernel than to the filter.
WIDE = 1 << 32
PROTOCOLS = [*range(42), 58, 103, 132, 136, 255, 256, 262, WIDE, WIDE + 6, WIDE + 17]
#: The arguments that each call is made with; none of them does anything. Raw sockets are left out:
#: those that the filter lets through the kernel refuses.
CALLS: dict[str, list[tuple[int, ...]]] = {
    "socket": [(f, t, p) for f in range(46) for t in (1, 2, 5) for p in PROTOCOLS],
    "setsockopt": [
        (-1, level, option, 0, 0)
        for level in [*range(48), 132, 255, 263, 270, 281, WIDE, WIDE + 1, WIDE + 6]
        for option in [*range(90), WIDE + 8]
    ],
    # Those that the kernel itself refuses, or that would end or expose the process, left out.
    "prctl": [
        (option, 999, 0, 0, 0)
        for option in [*range(5, 80), 0x53564D41, WIDE + 22]
        if option not in (10, 24, 28, 35, 57, 58)
    ],
    "mknod": [(0, mode, 0) for mode in range(0, 1 << 17, 1 << 9)],
    "mknodat": [(-1, 0, mode, 0) for mode in range(0, 1 << 17, 1 << 9)],
    "personality": [(value,) for value in (0x20000, 0x40000, 0x80000, 0xFFFFFFFF, WIDE)],
    "setpriority": [(which, who, 0) for which in range(4) for who in (0, 1, 999_999)],
    "ioprio_set": [(which, who, 0) for which in range(4) for who in (0, 1, 999_999)],
    "prlimit64": [(pid, 999, 0, 0) for pid in (0, 1, 2, 999_999, WIDE)],
}
PROBE = """
import ctypes, json, os, sys
libc = ctypes.CDLL(None, use_errno=True)
found = []
for number, *args in json.load(sys.stdin):
    ctypes.set_errno(0)
    made = libc.syscall(ctypes.c_long(number), *map(ctypes.c_long, args))
    found.append(ctypes.get_errno() != 1)
    if number == 41 and made >= 0: os.close(made)
print(json.dumps(found))
"""


def meets(arg: dict[str, Any], args: tuple[int, ...]) -> bool:
    """Whether an argument passes one test of a rule, as the filter sees it: in 64 bits."""
    value, wanted = args[arg["index"]] % (1 << 64), arg["value"]
    if arg["op"] == "SCMP_CMP_MASKED_EQ":
        return bool(value & wanted == arg["valueTwo"])
    return bool(value == wanted if arg["op"] == "SCMP_CMP_EQ" else value <= wanted)


def allowed(call: str, args: tuple[int, ...]) -> bool:
    """Whether the file lets a call through."""
    rules = [rule for rule in RULES if call in rule["names"]]
    return any(all(meets(arg, args) for arg in rule.get("args", ())) for rule in rules)


async def test_every_call_that_goes_by_its_arguments_is_tried() -> None:
    """A rule with arguments has its calls in the table below, or a test of its own."""
    by_argument = {name for rule in RULES if rule.get("args") for name in rule["names"]}
    elsewhere = {"clone"}  # tests/security/test_sandbox_walls.py
    scheduling = {name for name in by_argument if name.startswith("sched_set")}
    assert by_argument - elsewhere - scheduling == CALLS.keys()
    assert {arg["op"] for rule in RULES for arg in rule.get("args", ())} == {
        "SCMP_CMP_EQ",
        "SCMP_CMP_LE",
        "SCMP_CMP_MASKED_EQ",
    }


@pytest.mark.parametrize("call", CALLS)
async def test_the_kernel_refuses_what_the_file_does(executor: DockerExecutor, call: str) -> None:
    """Each combination of arguments is let through or refused as the rules read."""
    tried = CALLS[call]
    stdin = json.dumps([(NUMBERS[call], *args) for args in tried]).encode()
    outcome = await attack(executor, msgspec.structs.replace(py(PROBE), stdin=stdin))
    assert outcome.verdict is Verdict.OK, outcome
    through = json.loads(outcome.stdout)
    assert len(through) == len(tried)
    wrong = [
        args for args, seen in zip(tried, through, strict=True) if seen is not allowed(call, args)
    ]
    assert wrong == []

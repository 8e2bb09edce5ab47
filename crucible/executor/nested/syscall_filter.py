"""From a profile of system calls, as engines read it, to a filter as the kernel takes it. Pure.

A program of a lane gets its own filter: the container's has to let process 1 make namespaces and
mounts. It is classic BPF over ``struct seccomp_data`` (number, architecture, six arguments of 64
bits) and looks a number up by halving, since the kernel tries each number once when a filter is
set, and that is done for every program.
"""

from __future__ import annotations

import functools
import importlib.resources
import json
import struct
from typing import TYPE_CHECKING, Any, NamedTuple

from crucible.errors import ExecutorRefused

if TYPE_CHECKING:
    from collections.abc import Sequence

#: ``AUDIT_ARCH_*``, and the first number that is another interface's of the same architecture.
_ARCHITECTURES = {"x86_64": (0xC000003E, 0x40000000), "aarch64": (0xC00000B7, 0)}
#: Those there are filters for, as kernels name them.
MACHINES = tuple(_ARCHITECTURES)
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
_LOAD, _AND, _JUMP, _EQUAL, _GREATER, _NOT_LESS, _RETURN = 0x20, 0x54, 0x05, 0x15, 0x25, 0x35, 0x06
_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_ENOSYS = 38
_WORD = 0xFFFFFFFF


class Instruction(NamedTuple):
    """One instruction: what to do, how far to jump if so and if not, a constant."""

    code: int
    if_true: int
    if_false: int
    constant: int


#: A filter, or a part of one that ends in a return on every way through it.
Code = list[Instruction]
#: Arguments by index with the values that a rule wants of them, and what it answers then.
Choice = tuple[tuple[tuple[int, int], ...], int]


def _return(action: int) -> Code:
    return [Instruction(_RETURN, 0, 0, action)]


@functools.cache
def syscall_numbers(machine: str) -> dict[str, int]:
    """The numbers of an architecture's system calls by name.

    Raises:
        ExecutorRefused: no numbers are known for it.
    """
    text = (
        importlib.resources.files(__package__).joinpath("syscall_numbers.json").read_text("utf-8")
    )
    numbers: dict[str, dict[str, int]] = json.loads(text)
    if machine not in numbers:
        raise ExecutorRefused(f"isolation nested: machines of type {machine!r} are not supported")
    return numbers[machine]


@functools.cache
def filter_bytes(profile: str, machine: str) -> bytes:
    """The filter for a profile, eight bytes an instruction.

    Args:
        profile: JSON as the engine takes it: a default action, and rules that allow or refuse.
        machine: the architecture as the kernel names it, such as ``x86_64``.

    Raises:
        ExecutorRefused: no numbers are known for the architecture.
        ValueError: the profile has an action or a comparison that is not known here.
    """
    return b"".join(struct.pack("=HBBI", *step) for step in assemble(json.loads(profile), machine))


def assemble(profile: dict[str, Any], machine: str) -> Code:
    """The instructions for a decoded profile; errors as of ``filter_bytes``."""
    architecture, foreign = _ARCHITECTURES.get(machine, (0, 0))
    decided = _by_number(profile, syscall_numbers(machine))
    default = _return(_action(profile["defaultAction"], profile.get("defaultErrnoRet", 1)))
    code = [Instruction(_LOAD, 0, 0, _ARCHITECTURE), Instruction(_EQUAL, 1, 0, architecture)]
    code += _return(_KILL)
    code.append(Instruction(_LOAD, 0, 0, _NUMBER))
    if foreign:
        code.append(Instruction(_NOT_LESS, 0, 1, foreign))
        code += _return(_ERRNO | _ENOSYS)
    return code + _search(_ranges(decided, default))


def _action(name: str, errno: int) -> int:
    if name == "SCMP_ACT_ALLOW":
        return _ALLOW
    if name == "SCMP_ACT_ERRNO":
        return _ERRNO | errno
    raise ValueError(f"the action {name} is not known")


def _by_number(profile: dict[str, Any], numbers: dict[str, int]) -> dict[int, Code]:
    """What is decided for each number that a rule names; a rule without conditions is the last."""
    rules: dict[int, list[dict[str, Any]]] = {}
    for rule in profile["syscalls"]:
        for name in rule["names"]:
            if name in numbers:
                rules.setdefault(numbers[name], []).append(rule)
    default = _return(_action(profile["defaultAction"], profile.get("defaultErrnoRet", 1)))
    return {number: _decide(found, default) for number, found in rules.items()}


def _decide(rules: Sequence[dict[str, Any]], default: Code) -> Code:
    plain = [rule for rule in rules if not rule.get("args")]
    if plain:
        return _return(_action(plain[-1]["action"], plain[-1].get("errnoRet", 1)))
    choices = [choice for rule in rules if (choice := _choice(rule)) is not None]
    if len(choices) == len(rules):
        return _choose(choices, default)
    code: Code = []
    for rule in rules:
        code += _conditional(rule)
    return code + default


def _choice(rule: dict[str, Any]) -> Choice | None:
    """Arguments by index with the small values they must have, and what then; None otherwise."""
    conditions = sorted(rule["args"], key=lambda condition: int(condition["index"]))
    if any(c["op"] != "SCMP_CMP_EQ" or c["value"] > _WORD for c in conditions):
        return None
    wanted = tuple((c["index"], c["value"]) for c in conditions)
    return wanted, _action(rule["action"], rule.get("errnoRet", 1))


def _choose(choices: Sequence[Choice], default: Code) -> Code:
    """Look at each argument once: many rules differ in nothing but a value."""
    done = [action for wanted, action in choices if not wanted]
    if done:  # a rule that asks for no more than was seen already
        return _return(done[0])
    index = choices[0][0][0][0]
    if any(wanted[0][0] != index for wanted, _ in choices):
        raise ValueError("rules about different arguments of one call are not known")
    code: Code = []
    for value in dict.fromkeys(wanted[0][1] for wanted, _ in choices):
        rest = [(wanted[1:], action) for wanted, action in choices if wanted[0][1] == value]
        inner = _choose(rest, default)
        code += [Instruction(_EQUAL, 0, len(inner), value), *inner]
    high = _ARGUMENTS + 8 * index + 4
    return [
        Instruction(_LOAD, 0, 0, high),
        Instruction(_EQUAL, 1, 0, 0),
        *default,
        Instruction(_LOAD, 0, 0, high - 4),
        *code,
        *default,
    ]


def _conditional(rule: dict[str, Any]) -> Code:
    """A return when every condition of a rule holds; else on to what follows."""
    code = _return(_action(rule["action"], rule.get("errnoRet", 1)))
    for condition in reversed(rule["args"]):
        code = _unless(condition, len(code)) + code
    return code


def _unless(condition: dict[str, Any], skip: int) -> Code:
    """Skip so many instructions when a condition does not hold."""
    operator, value = condition["op"], condition["value"]
    high = _ARGUMENTS + 8 * condition["index"] + 4  # both architectures are little endian
    low = high - 4
    if operator == "SCMP_CMP_EQ":
        return _equal(high, low, _WORD << 32 | _WORD, value, skip)
    if operator == "SCMP_CMP_MASKED_EQ":
        return _equal(high, low, value, condition.get("valueTwo", 0), skip)
    if operator == "SCMP_CMP_LE":
        return [
            Instruction(_LOAD, 0, 0, high),
            Instruction(_GREATER, skip + 3, 0, value >> 32),
            Instruction(_EQUAL, 0, 2, value >> 32),
            Instruction(_LOAD, 0, 0, low),
            Instruction(_GREATER, skip, 0, value & _WORD),
        ]
    raise ValueError(f"the comparison {operator} is not known")


def _equal(high: int, low: int, mask: int, value: int, skip: int) -> Code:
    if mask == _WORD << 32 | _WORD:
        return [
            Instruction(_LOAD, 0, 0, high),
            Instruction(_EQUAL, 0, skip + 2, value >> 32),
            Instruction(_LOAD, 0, 0, low),
            Instruction(_EQUAL, 0, skip, value & _WORD),
        ]
    return [
        Instruction(_LOAD, 0, 0, high),
        Instruction(_AND, 0, 0, mask >> 32),
        Instruction(_EQUAL, 0, skip + 3, value >> 32),
        Instruction(_LOAD, 0, 0, low),
        Instruction(_AND, 0, 0, mask & _WORD),
        Instruction(_EQUAL, 0, skip, value & _WORD),
    ]


def _ranges(decided: dict[int, Code], default: Code) -> list[tuple[int, Code]]:
    """First number and decision of every range of numbers with one decision, in order."""
    found: list[tuple[int, Code]] = [(0, default)]
    for number in sorted(decided):
        for first, code in ((number, decided[number]), (number + 1, default)):
            if found[-1][0] == first:
                found.pop()
            if not found or found[-1][1] != code:
                found.append((first, code))
    return found


def _search(ranges: Sequence[tuple[int, Code]]) -> Code:
    if len(ranges) == 1:
        return ranges[0][1]
    middle = len(ranges) // 2
    below, above = _search(ranges[:middle]), _search(ranges[middle:])
    first = ranges[middle][0]
    if len(below) < 256:
        return [Instruction(_NOT_LESS, len(below), 0, first), *below, *above]
    jump = Instruction(_JUMP, 0, 0, len(below))
    return [Instruction(_NOT_LESS, 0, 1, first), jump, *below, *above]

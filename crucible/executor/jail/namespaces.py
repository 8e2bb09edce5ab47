"""Namespaces, ids, mounts, capabilities and filters: what a lane asks of the kernel for a program.

Numbers are those of ``linux/sched.h``, ``linux/mount.h``, ``linux/capability.h`` and
``linux/prctl.h``; they are the same on every architecture.
"""

import _ctypes
import posix

from crucible.executor.jail.kernel import call_libc, look_up, write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    #: A function of the C library by its address, with arguments.
    Call = tuple[int, tuple[int | bytes | None, ...]]

SHARED_MEMORY = 0x00000100
NEW_MOUNTS = 0x00020000
NEW_UTS = 0x04000000
NEW_IPC = 0x08000000
NEW_USERS = 0x10000000
NEW_PIDS = 0x20000000
SIGCHLD = 17

READ_ONLY, NO_SUID, NO_DEVICES, NO_EXEC = 1, 2, 4, 8
REMOUNT, NO_TIMES, BIND, RECURSIVE, PRIVATE = 32, 1024, 4096, 16384, 1 << 18
DETACH = 2

SIG_DFL, SIG_IGN = 0, 1
PR_SET_SECCOMP = 22
PR_CAPBSET_DROP = 24
SECCOMP_MODE_FILTER = 2
#: ``_LINUX_CAPABILITY_VERSION_3`` and the calling process.
CAPABILITY_HEADER = (0x20080522).to_bytes(4, "little") + bytes(4)
#: ``CAP_SETGID`` and ``CAP_SETUID``, all that a lane has at first.
SET_IDS = 1 << 6 | 1 << 7


def demand(name: str, *arguments: "int | bytes | Pointer | None") -> int:
    """Call a function of the C library that has to succeed.

    Raises:
        OSError: it did not; the reason is on standard error, which the host reads.
    """
    value: int = _ctypes.call_function(look_up(name), arguments)
    if value < 0:
        call_libc("perror", name.encode() + b" " + b" ".join(map(shown, arguments)))
        raise OSError(name)
    return value


def shown(argument: "int | bytes | Pointer | None") -> bytes:
    """An argument as a complaint names it."""
    return argument if isinstance(argument, bytes) else str(argument).encode()


def mount(
    source: bytes, target: bytes, kind: "bytes | None", flags: int, options: "bytes | None" = None
) -> None:
    """Mount a file system.

    Raises:
        OSError: the kernel refused.
    """
    demand("mount", source, target, kind, flags, options)


def bind(source: bytes, target: bytes, flags: int, more: int = 0) -> None:
    """Show a file or a folder at another place as well, with ``flags`` of its own there.

    Raises:
        OSError: the kernel refused.
    """
    demand("mount", source, target, None, BIND | more, None)
    demand("mount", None, target, None, REMOUNT | BIND | flags, None)


class Pointer(_ctypes._SimpleCData):  # type: ignore[type-arg]  # noqa: SLF001 - as ctypes does
    """An address, which as a plain number would be cut to that of an ``int``."""

    _type_ = "P"


#: Of a process 1 that only waits: nothing of it is ever deeper.
STACK = bytes(1 << 16)


def start_init(flags: int) -> int:
    """Start a process in new namespaces that does nothing but wait; its id.

    It runs in this process's memory, on a stack of its own, so nothing is copied for it: that is
    most of what a process costs. All it ever does is the C library's ``pause``.

    Raises:
        OSError: the kernel refused.
    """
    # A bytes object's own bytes lie behind its head; a stack grows down from its aligned end.
    top = (id(STACK) + bytes.__basicsize__ - 1 + len(STACK)) & ~63
    return demand(
        "clone", Pointer(look_up("pause")), Pointer(top), SHARED_MEMORY | flags | SIGCHLD, 0
    )


def write_map(pid: int, which: str, lines: str) -> None:
    """Say which ids a process's new user namespace has: inside, outside, how many."""
    fd = posix.open(f"/proc/{pid}/{which}", posix.O_WRONLY | posix.O_CLOEXEC)
    try:
        write_all(fd, lines.encode())
    finally:
        posix.close(fd)


def become_user(uid: int) -> None:
    """Be that user and group, and in no other group."""
    posix.setgroups([])
    posix.setresgid(uid, uid, uid)
    posix.setresuid(uid, uid, uid)


def raise_set_ids() -> None:
    """Have the rights to set user and group ids in effect again, after a change of the user.

    Raises:
        OSError: the kernel refused.
    """
    permitted = SET_IDS.to_bytes(4, "little")
    demand("capset", CAPABILITY_HEADER, permitted + permitted + bytes(16))


def make_calls(calls: "list[Call]") -> None:
    """Call functions of the C library that have to succeed, one after the other.

    Raises:
        OSError: one did not; the reason is on standard error.
    """
    call = _ctypes.call_function
    for function, arguments in calls:
        if call(function, arguments) < 0:
            names = [name for name in ("mount", "prctl") if look_up(name) == function]
            words = [*map(str.encode, names), *map(shown, arguments)]
            call_libc("perror", b" ".join(words))
            raise OSError("a program's process could not be prepared")


def rights_to_give_up(last_capability: int, program: bytes) -> "list[Call]":
    """The calls after which a process has no capability, no way to any, and its own filter.

    Args:
        last_capability: the highest this kernel knows.
        program: the filter of system calls in the kernel's classic BPF, eight bytes an
            instruction. It has to be kept as long as the calls may be made.
    """
    # struct sock_fprog: a count, and where the instructions lie. Those of a bytes object lie
    # behind its head, which its type knows the size of (with the NUL it ends with).
    address = id(program) + bytes.__basicsize__ - 1
    header = (len(program) // 8).to_bytes(8, "little") + address.to_bytes(8, "little")
    prctl = look_up("prctl")
    drops = [(prctl, (PR_CAPBSET_DROP, number, 0, 0, 0)) for number in range(last_capability + 1)]
    return [
        *drops,
        (look_up("capset"), (CAPABILITY_HEADER, bytes(24))),
        (prctl, (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, header, 0, 0)),
    ]

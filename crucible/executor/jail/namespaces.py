"""Namespaces, ids, mounts, capabilities and filters: what a lane asks of the kernel for a program.

Numbers are those of ``linux/sched.h``, ``linux/mount.h``, ``linux/capability.h`` and
``linux/prctl.h``; they are the same on every architecture but for the number of ``clone``.
"""

import _ctypes
import posix

from crucible.executor.jail.kernel import call_libc, look_up, write_all

NEW_MOUNTS = 0x00020000
NEW_UTS = 0x04000000
NEW_IPC = 0x08000000
NEW_USERS = 0x10000000
NEW_PIDS = 0x20000000
SIGCHLD = 17

READ_ONLY, NO_SUID, NO_DEVICES, NO_EXEC = 1, 2, 4, 8
REMOUNT, BIND, RECURSIVE, PRIVATE = 32, 4096, 16384, 1 << 18
DETACH = 2

PR_SET_SECCOMP = 22
PR_CAPBSET_DROP = 24
SECCOMP_MODE_FILTER = 2
#: ``_LINUX_CAPABILITY_VERSION_3`` and the calling process.
CAPABILITY_HEADER = (0x20080522).to_bytes(4, "little") + bytes(4)


def demand(name: str, *arguments: "int | bytes | None") -> int:
    """Call a function of the C library that has to succeed.

    Raises:
        OSError: it did not; the reason is on standard error, which the host reads.
    """
    value: int = _ctypes.call_function(look_up(name), arguments)
    if value < 0:
        call_libc("perror", name.encode() + b" " + b" ".join(map(shown, arguments)))
        raise OSError(name)
    return value


def shown(argument: "int | bytes | None") -> bytes:
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


def clone(number: int, flags: int) -> int:
    """Fork into new namespaces; the child's id, 0 in the child.

    The C library's ``fork`` does not take flags, so nothing of what it or the interpreter does
    after a fork is done. That suits a process with one thread that forks once more, properly.

    Raises:
        OSError: the kernel refused.
    """
    return demand("syscall", number, flags | SIGCHLD, 0, 0, 0, 0)


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


def drop_capabilities(last: int) -> None:
    """Give up every capability, and the way to any.

    Raises:
        OSError: the kernel refused.
    """
    for capability in range(last + 1):
        demand("prctl", PR_CAPBSET_DROP, capability, 0, 0, 0)
    demand("capset", CAPABILITY_HEADER, bytes(24))


def restrict_calls(program: bytes) -> None:
    """Let this process and its children make no system calls but those a filter allows.

    Args:
        program: the filter in the kernel's classic BPF, eight bytes an instruction.

    Raises:
        OSError: the kernel refused.
    """
    # struct sock_fprog: a count, and where the instructions lie. Those of a bytes object lie
    # behind its head, which its type knows the size of (with the NUL it ends with).
    address = id(program) + bytes.__basicsize__ - 1
    header = (len(program) // 8).to_bytes(8, "little") + address.to_bytes(8, "little")
    demand("prctl", PR_SET_SECCOMP, SECCOMP_MODE_FILTER, header, 0, 0)

"""Who the processes of a lane are: their user ids, and whom the kernel kills first for memory."""

import posix

from crucible.executor.jail.kernel import set_dumpable, write_all
from crucible.executor.jail.namespaces import (
    NEW_USERS,
    become_user,
    demand,
    raise_set_ids,
    write_map,
)

#: The user ids that programs take in turn, as they see them and as the spawner does.
FIRST_ID, IDS = 20_000, 1024
#: What a program sees as root: nobody. Pseudo-terminals cannot be had where there is none.
NO_ROOT = 1
#: The kernel's killer prefers a program, then the spawner, to the supervisor, which has to report.
OOM_SCORE, PROGRAM_OOM_SCORE = b"300", b"1000"
#: What the host knows the want of user ids by.
NO_IDS = "the ids of the lane could not be set"


def enter_users(first: int) -> None:
    """Have a user namespace of its own, whose root is ``first`` outside, and be that root.

    The ids of the programs follow on it. Only who has a right outside may say so: a child that
    stays outside for it, and is gone before anything else happens.

    The namespace is made as ``first``, too: what a program takes of quotas such as that of inotify
    is counted for the maker of each namespace above it, and as root's it would be counted together
    with all other lanes and the host's own.
    """
    gate, opener = posix.pipe2(posix.O_CLOEXEC)
    helper = posix.fork()
    try:
        # The real and the saved id stay root's, and with them the rights, if not in effect.
        posix.setresuid(0, first, 0)
    except OSError as error:
        raise OSError(NO_IDS) from error
    if helper == 0:
        posix.close(opener)
        raise_set_ids()
        posix.read(gate, 1)
        for which in ("gid_map", "uid_map"):
            write_map(1, which, f"0 {first} {NO_ROOT + 1}\n{FIRST_ID} {first + 2} {IDS}\n")
        posix._exit(0)  # noqa: SLF001 - os._exit under its built-in name
    posix.close(gate)
    # Its maps are files of its user's only while its memory may be looked at.
    set_dumpable(1)
    demand("unshare", NEW_USERS)
    posix.close(opener)
    _, status = posix.waitpid(helper, 0)
    if status:
        raise OSError(NO_IDS)
    become_user(0)
    set_dumpable(0)


def last_capability() -> int:
    """The highest capability this kernel knows."""
    fd = posix.open("/proc/sys/kernel/cap_last_cap", posix.O_RDONLY | posix.O_CLOEXEC)
    number = int(posix.read(fd, 16))
    posix.close(fd)
    return number


def set_oom_score() -> None:
    """Be killed for want of memory before the supervisor is, and after any program."""
    set_dumpable(1)
    fd = posix.open("/proc/self/oom_score_adj", posix.O_WRONLY)
    write_all(fd, OOM_SCORE)
    posix.close(fd)
    set_dumpable(0)

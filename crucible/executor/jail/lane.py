"""Process 1 of a lane: makes one set of namespaces after the other, each for one program.

Three kinds of process. **Process 1** never reads a request, so a program, which is a copy of it,
finds nothing there of those before. It has a user namespace of its own: its root is nobody outside,
and it is the only one with capabilities, which count in what it makes and nowhere else. For each
program it makes a **keeper**: process 1 of new user, pid, mount, ipc and uts namespaces, which
mounts what is the program's own, gives up all its rights, and then is what process 1 of a container
of one program is: it takes the request, starts **the program**, and tells how it ended.

Nothing of one program is there for the next: its keeper's end ends its pid namespace and with it
the others.
"""

import gc
import marshal
import posix
import time

from crucible.executor.jail.kernel import (
    WORK,
    call_libc,
    highest_memory,
    memory_in_use,
    oom_kills,
    own_code,
    read_exactly,
    read_fields,
    set_dumpable,
)
from crucible.executor.jail.namespaces import (
    NEW_IPC,
    NEW_MOUNTS,
    NEW_PIDS,
    NEW_USERS,
    NEW_UTS,
    become_user,
    clone,
    demand,
    drop_capabilities,
    restrict_calls,
    write_map,
)
from crucible.executor.jail.single import Single, send
from crucible.executor.jail.startup import listen_for_ends, take_over
from crucible.executor.jail.tree import build_tree, covers, existing, make_private

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: The user ids that programs take in turn, as they see them and as process 1 of the lane does.
FIRST_ID, IDS = 20_000, 1024
#: How a keeper exits when the host hung up instead of asking.
HUNG_UP = 3
#: The kernel's killer prefers a program, then its keeper, to process 1: that one is left to tell.
KEEPER_OOM_SCORE = b"300"
#: Bytes of anonymous and shared memory that a lane may have more than at its start, and seconds
#: that what a program left may take to be freed.
LEFT_BYTES, FREED_S = 2 << 20, 0.1
RUSAGE_CHILDREN = -1


class Keeper(Single):
    """Process 1 of one program's namespaces.

    Attributes:
        left_bytes: memory of the lane that programs before left, which can only be cache.
        seen_bytes: most of the lane's memory at any look.
    """

    overhead = 2

    def __init__(
        self,
        request: "dict[str, Any]",
        control: int,
        frames: int,
        wakeup: int,
        idle_bytes: int,
    ) -> None:
        self.highest_before = highest_memory()
        self.left_bytes = max(0, memory_in_use() - idle_bytes)
        self.seen_bytes = 0
        super().__init__(request, control, frames, wakeup)

    def look(self, now: float) -> float:
        """Check time and counts, and note the memory; as of ``Single.look``."""
        self.seen_bytes = max(self.seen_bytes, memory_in_use())
        return super().look(now)

    def peak_bytes(self) -> int:
        """Highest memory while this program ran.

        The kernel has one highest value for the life of a lane. A program that did not exceed those
        before it is known by what was seen while it ran, and by its own largest process.
        """
        highest = highest_memory()
        if highest == self.highest_before:
            highest = max(self.seen_bytes, memory_in_use())
        return max(highest - self.left_bytes, largest_child())


def boot_lane() -> "dict[str, Any] | None":
    """Prepare the lane, then make namespaces for one program after the other.

    Returns:
        in a program, its request; None in whatever else is to exit.
    """
    control, frames, _ = take_over()
    setup = marshal.loads(read_message(control))  # noqa: S302 - from the host, which is trusted
    enter_users(setup["first_id"])
    demand("unshare", NEW_MOUNTS | NEW_IPC | NEW_UTS)
    build_tree()
    setup["last_capability"] = last_capability()
    setup["covers"] = covers(setup["hidden"])
    setup["read_only"] = existing(setup["read_only"])
    set_dumpable(1)
    memory = LaneMemory()
    code = own_code()
    gc.collect()
    gc.freeze()
    for number in range(setup["programs"]):
        gate, opener = posix.pipe2(posix.O_CLOEXEC)
        pid = clone(setup["clone"], NEW_USERS | NEW_PIDS | NEW_MOUNTS | NEW_IPC | NEW_UTS)
        uid = FIRST_ID + number % IDS
        if pid == 0:
            posix.close(opener)
            if not posix.read(gate, 1):
                posix._exit(HUNG_UP)  # noqa: SLF001 - os._exit under its built-in name
            posix.close(gate)
            prepare(setup, uid)
            send(frames, b"R", code)
            return keep(control, frames, memory.idle_bytes)
        posix.close(gate)
        write_map(pid, "gid_map", f"{uid} {uid} 1")
        write_map(pid, "uid_map", f"{uid} {uid} 1")
        posix.write(opener, b"g")
        posix.close(opener)
        code = b""
        killed = oom_kills()
        _, status = posix.waitpid(pid, 0)
        if status:
            if status != HUNG_UP << 8:
                send(frames, b"L", b'{"status":%d,"oom_kills":%d}' % (status, oom_kills() - killed))
            return None
        if not memory.is_free():
            return None
    return None


def read_message(control: int) -> bytes:
    """One message of the host's; nothing when it hung up."""
    header = read_exactly(control, 4)
    size = int.from_bytes(header, "big")
    body = read_exactly(control, size) if len(header) == 4 else b""
    return body if len(body) == size else b""


def enter_users(first: int) -> None:
    """Have a user namespace of its own, whose root is ``first`` outside, and be that root.

    The ids of the programs follow on it. Only who has a right outside may say so: a child that
    stays outside for it, and is gone before anything else happens.
    """
    gate, opener = posix.pipe2(posix.O_CLOEXEC)
    helper = posix.fork()
    if helper == 0:
        posix.close(opener)
        posix.read(gate, 1)
        for which in ("gid_map", "uid_map"):
            write_map(1, which, f"0 {first} 1\n{FIRST_ID} {first + 1} {IDS}\n")
        posix._exit(0)  # noqa: SLF001 - os._exit under its built-in name
    posix.close(gate)
    demand("unshare", NEW_USERS)
    posix.close(opener)
    _, status = posix.waitpid(helper, 0)
    if status:
        raise OSError("the ids of the lane could not be set")
    become_user(0)


def last_capability() -> int:
    """The highest capability this kernel knows."""
    fd = posix.open("/proc/sys/kernel/cap_last_cap", posix.O_RDONLY | posix.O_CLOEXEC)
    number = int(posix.read(fd, 16))
    posix.close(fd)
    return number


def prepare(setup: "dict[str, Any]", uid: int) -> None:
    """In a keeper: have what is the program's own, and no right beyond the program's."""
    # As long as its files in /proc are its own: they are root's once it is not dumpable.
    fd = posix.open("/proc/self/oom_score_adj", posix.O_WRONLY)
    posix.write(fd, KEEPER_OOM_SCORE)
    posix.close(fd)
    become_user(uid)
    make_private(setup, uid)
    drop_capabilities(setup["last_capability"])
    restrict_calls(setup["filter"])
    set_dumpable(0)
    posix.mkdir(WORK, 0o755)
    posix.chdir(WORK)


def keep(control: int, frames: int, idle_bytes: int) -> "dict[str, Any] | None":
    """Run the one program; in the child that is to become it, its request."""
    body = read_message(control)
    if not body:
        posix._exit(HUNG_UP)  # noqa: SLF001 - os._exit under its built-in name
    send(frames, b"S", b"")
    request: dict[str, Any] = marshal.loads(body)  # noqa: S302 - from the host, which is trusted
    wakeup = listen_for_ends()
    return request if Keeper(request, control, frames, wakeup, idle_bytes).run() else None


class LaneMemory:
    """The memory of the lane between two programs.

    Attributes:
        idle_bytes: what was in use before the first.
    """

    def __init__(self) -> None:
        self.idle_bytes = self.used_bytes = memory_in_use()
        self.held_bytes = memory_held()

    def is_free(self) -> bool:
        """Whether what the last program held was given back, or is within a moment.

        The kernel frees some of it, such as shared memory segments, after the namespaces are gone.
        """
        used_bytes = memory_in_use()
        if used_bytes > self.used_bytes + LEFT_BYTES:
            until = time.monotonic() + FREED_S
            while memory_held() > self.held_bytes + LEFT_BYTES:
                if time.monotonic() > until:
                    return False
                time.sleep(0.001)
            used_bytes = memory_in_use()
        # The rest of what grew is cache of files, which goes when the memory is needed.
        self.used_bytes = max(self.used_bytes, used_bytes)
        return True


def memory_held() -> int:
    """Bytes of the lane's memory that are no cache."""
    fields = read_fields("/memory/memory.stat") or read_fields("/memory.stat")
    names = ("total_rss", "total_shmem", "anon", "shmem")
    found = dict(zip(fields[::2], fields[1::2], strict=False))
    return sum(int(found.get(name, 0)) for name in names)


def largest_child() -> int:
    """Most resident bytes of any process of the program that has been reaped."""
    usage = bytes(144)
    # struct rusage: two times of sixteen bytes, then the resident size in KiB.
    call_libc("getrusage", RUSAGE_CHILDREN, usage)
    return int.from_bytes(usage[32:40], "little") * 1024


if __name__ == "__main__":
    _request = boot_lane()
    if _request is None:
        posix._exit(0)  # noqa: SLF001 - os._exit under its built-in name

"""Process 1 of a lane: the supervisor of one program after the other.

It is what process 1 of a container of one program is, with this difference: it does not start
programs itself, since it has seen the requests of those before, and a program would be its copy.
The spawner does, in a process and a pid namespace of its own. Both are in a user namespace whose
root is nobody outside.
"""

import _signal  # type: ignore[import-not-found]  # typeshed has no stub for the built-in module
import _socket
import gc
import marshal
import posix
import select
import time

from crucible.executor.jail.account import ACCOUNT
from crucible.executor.jail.become import is_usual
from crucible.executor.jail.kernel import (
    highest_memory,
    memory_in_use,
    oom_kills,
    own_code,
    pids_in_use,
    read_exactly,
    read_fields,
    read_into,
    set_dumpable,
    write_all,
)
from crucible.executor.jail.namespaces import (
    NEW_IPC,
    NEW_MOUNTS,
    NEW_PIDS,
    NEW_USERS,
    NEW_UTS,
    READ_ONLY,
    become_user,
    demand,
    make_calls,
    mount,
    raise_set_ids,
    rights_to_give_up,
    write_map,
)
from crucible.executor.jail.single import LINGER_S, Single, send
from crucible.executor.jail.spawner import (
    FIRST_BYTES,
    FIRST_ID,
    IDS,
    NO_ROOM,
    NO_ROOT,
    OOM_SCORE,
    Spawner,
    receive_message,
    send_message,
)
from crucible.executor.jail.startup import take_over
from crucible.executor.jail.tree import HIDDEN, build_tree, covers, existing, is_there

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: Bytes of anonymous and shared memory that a lane may have more than at its start, and seconds
#: that what a program left may take to be freed. Each processor may hold back changes of so many
#: pages from the kernel's counters.
LEFT_BYTES, FREED_S = 2 << 20, 0.1
PROCESSOR_PAGES = 64
#: Frames are held back so many milliseconds, or up to so many bytes: those of a small program are
#: one message then, and each message costs the engine as much as it costs here.
HOLD_MS, HOLD_BYTES = 2.0, 65536
#: What of a request goes on to the process that becomes the program.
THE_PROGRAMS = ("argv", "artifact_bytes", "env", "executable", "files", "memory_bytes", "warm")


#: The spawner, in itself and its copies: to free what it has would cost them pages.
_kept: "list[Spawner]" = []
#: What the host knows the want of user ids by.
NO_IDS = "the ids of the lane could not be set"


class SpawnerLostError(Exception):
    """The spawner is no more, and the lane of no use."""


class Namespaces:
    """The namespaces of one program, as the supervisor has them.

    Attributes:
        spawner: what is said to the spawner, and heard of it.
        channel: to the process that waits in them for a request.
        number: of that process.
        disks: descriptors of the program's file systems; good for nothing but to ask how full.
        pipes: this side's ends of the program's standard input, output and error.
    """

    def __init__(self, spawner: "_socket.socket") -> None:
        self.spawner = spawner
        message, descriptors = self.hear()
        while message == b"G":  # of those before
            message, descriptors = self.hear()
        own = self.attach(message, descriptors)
        self.disks, self.pipes = own[:2], own[2:]

    def hear(self) -> "tuple[bytes, list[int]]":
        """What the spawner says next."""
        message, descriptors = receive_message(self.spawner, 6)
        if not message:
            raise SpawnerLostError
        return message, descriptors

    def attach(self, message: bytes, descriptors: "list[int]") -> "list[int]":
        """Take over the channel of a process that was started; the other descriptors with it."""
        self.number = message[1]
        # All given, so that the kernel is not asked.
        kind = _socket.AF_UNIX, _socket.SOCK_STREAM, 0
        self.channel = _socket.socket(*kind, descriptors[0])
        if not self.channel.recv(1):
            raise SpawnerLostError
        return descriptors[1:]

    def ask(self, request: "dict[str, Any]", descriptors: "tuple[int, ...]" = ()) -> None:
        """Send the waiting process its request, with descriptors.

        One that was killed meanwhile hears nothing; how it ended is what the spawner says next.
        """
        body = marshal.dumps(request, 2)
        message = len(body).to_bytes(8, "big") + body[:FIRST_BYTES]
        try:
            send_message(self.channel, message, descriptors)
            if len(body) > FIRST_BYTES:
                self.channel.sendall(memoryview(body)[FIRST_BYTES:])
        except OSError:
            return

    def end(self) -> None:
        """Have everything in them killed."""
        self.spawner.send(b"E")

    def close(self) -> None:
        """Forget them."""
        self.channel.close()
        for fd in self.disks:
            posix.close(fd)


class Ward(Single):
    """A program of a lane.

    Attributes:
        left_bytes: memory of the lane that is not the program's: what programs before left, which
            can only be cache, and what the lane has on top of the limit.
    """

    #: The supervisor, the spawner, and process 1 of the program's namespaces.
    overhead = 3

    def __init__(
        self,
        request: "dict[str, Any]",
        control: int,
        frames: int,
        namespaces: Namespaces,
        idle_bytes: int,
    ) -> None:
        self.namespaces = namespaces
        self.left_bytes = max(0, memory_in_use() - idle_bytes)
        self.asked_to_end = self.gone = False
        self.refused = False
        self.outbox = b"S" + bytes(4)
        #: Processes under way that kill what is left, or hand back files.
        self.helpers = 0
        wakeup = namespaces.spawner.fileno()
        super().__init__(request, control, frames, wakeup, highest_memory())

    def emit(self, kind: bytes, payload: bytes) -> None:
        """Send one frame to the host, with others that come at about the same time."""
        self.outbox += kind + len(payload).to_bytes(4, "big") + payload
        # Somebody waits for each piece of a program that talks.
        if kind == b"X" or self.request["talks"] or len(self.outbox) > HOLD_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write the frames that are held back."""
        write_all(self.frames, self.outbox)
        self.outbox = b""

    def wait(self, most_ms: float) -> "list[tuple[int, int]]":
        """Wait for something to happen, at most so many milliseconds."""
        if self.outbox:
            happened = self.poll.poll(min(HOLD_MS, most_ms))
            if happened:
                return happened
            self.flush()
        return super().wait(most_ms)

    def write_files(self, folder_mode: int, file_mode: int) -> None:
        """Nothing: whatever becomes the program writes them, as its user."""

    def start(self) -> bool:
        """Have the waiting process become the program."""
        self.main = self.namespaces.number
        self.keep_pipes(*self.namespaces.pipes)
        request = {name: self.request[name] for name in THE_PROGRAMS}
        if request["warm"] and is_usual(request["env"]):
            request["env"] = None
        self.namespaces.ask(request)
        # It has written them by the time it ends, and this process has no more use for them.
        self.request["files"] = []
        return False

    def hear(self) -> None:
        """Take note of what the spawner says: what has ended or begun."""
        message, descriptors = self.namespaces.hear()
        kind, number = message[:1], message[1] if message[1:] else 0
        if kind == b"S" and number == self.main:
            self.status, self.ended = int.from_bytes(message[2:], "big"), True
        elif kind == b"S":
            self.helpers -= 1
        elif kind == b"G":
            self.gone = True
        elif kind == b"!":
            self.refused = True
        elif kind == b"N":
            self.namespaces.attach(message, descriptors)

    def one_more(self) -> bool:
        """Have one more process that waits for a request; whether there is one."""
        self.refused = False
        before = self.namespaces.number
        self.namespaces.channel.close()
        self.namespaces.spawner.send(b"M")
        while self.namespaces.number == before and not self.refused:
            self.hear()
        return not self.refused

    def reap(self) -> None:
        """Nothing: the processes are not this one's."""

    def stop(self, reason: str) -> None:
        """Kill the program for ``reason``; the first reason stays."""
        if self.reason == "exit":
            self.reason = reason
            if not (self.leaves_files() and self.collect(send=False)):
                self.end()

    def end(self) -> None:
        """Have the namespaces end, once."""
        if not self.asked_to_end:
            self.asked_to_end = True
            self.namespaces.end()

    def collect(self, *, send: bool) -> bool:
        """Have all processes killed but not the namespaces, and files handed back; if possible."""
        self.flush()
        if self.asked_to_end or not self.one_more():
            return False
        self.helpers += 1
        names = ("output_files", "files_most", "file_bytes", "artifact_bytes")
        request = {"collect": True, "send": send, **{name: self.request[name] for name in names}}
        self.namespaces.ask(request, (self.frames,))
        return True

    def finish(self) -> None:
        """Let children end their last words, kill what is left, and read the pipes empty."""
        self.close_stdin()
        if posix.WIFEXITED(self.status) and posix.WEXITSTATUS(self.status) == NO_ROOM:
            self.disk_full = True
        until = time.monotonic() + LINGER_S
        while (alive := self.others_alive()) and self.reason == "exit" and time.monotonic() < until:
            select.poll().poll(2)
            for fd in list(self.pipes):
                self.read_output(fd)
        self.disk_full = self.disk_full or any(map(is_full_disk, self.namespaces.disks))
        if alive:
            self.kill_rest()
        self.read_rest()

    def others_alive(self) -> bool:
        """Whether any process of the program is there, zombies included."""
        return pids_in_use() > self.overhead

    def kill_rest(self) -> None:
        """Kill what the program left running, and wait until it is gone."""
        if not (self.leaves_files() and self.collect(send=False)):
            self.end()
        # Once they are gone the next are made: what is counted then is not this program's.
        while not self.gone and (self.asked_to_end or self.helpers):
            self.hear()

    def send_files(self) -> None:
        """Have a process of the program's user hand back the files that were asked for."""
        if self.collect(send=True):
            while self.helpers:
                self.hear()
            return
        for name in self.request["output_files"]:
            self.omit(name, b"lost")

    def lose(self) -> None:
        """Report the end of a program whose namespaces went with the spawner."""
        self.status = _signal.SIGKILL
        self.close_stdin()
        self.read_rest()
        self.request["output_files"] = []
        self.conclude()

    def out_of_memory(self) -> bool:
        """Whether the kernel has killed any process of the lane for memory."""
        return oom_kills() > self.oom_base

    def peak_bytes(self) -> int:
        """Highest memory while this program ran, of what is its own."""
        return max(0, super().peak_bytes() - self.left_bytes)


def is_full_disk(fd: int) -> bool:
    """Whether the file system of a descriptor has neither a block or an inode left."""
    stat = posix.fstatvfs(fd)
    return stat.f_bavail == 0 or stat.f_favail == 0


def boot_lane() -> "dict[str, Any] | None":
    """Prepare the lane, then run one program after the other.

    Returns:
        in a program, its request; None in whatever else is to exit.
    """
    control, frames = take_over()
    setup = marshal.loads(read_message(control))  # noqa: S302 - from the host, which is trusted
    enter_users(setup["first_id"])
    demand("unshare", NEW_MOUNTS | NEW_IPC | NEW_UTS | NEW_PIDS)
    build_tree()
    setup["last_capability"] = last_capability()
    setup["covers"] = covers(setup["hidden"])
    setup["read_only"] = existing(setup["read_only"])
    setup["account"] = is_there(ACCOUNT.encode())
    ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    gc.collect()
    gc.freeze()
    if posix.fork() == 0:
        ours.close()
        for fd in (control, frames):
            posix.close(fd)
        # Of its own pid namespace, where it finds what it starts; the supervisor keeps the other.
        demand("unshare", NEW_MOUNTS)
        mount(b"proc", b"/proc", b"proc", HIDDEN & ~READ_ONLY)
        set_oom_score()
        spawner = Spawner(setup, theirs)
        _kept.append(spawner)
        return spawner.serve()
    theirs.close()
    # The spawner alone needs more rights and calls than a program has.
    make_calls(rights_to_give_up(setup["last_capability"], setup["filter"]))
    set_dumpable(0)
    supervise(control, frames, ours, setup)
    return None


def supervise(
    control: int, frames: int, spawner: "_socket.socket", setup: "dict[str, Any]"
) -> None:
    """Run programs, each in namespaces of its own, until there were so many or nobody asks."""
    memory = None
    code = own_code()
    for _ in range(setup["programs"]):
        namespaces = Namespaces(spawner)
        if memory is None:
            memory = LaneMemory()
            send(frames, b"R", code)
        elif not memory.is_free():
            return
        body = read_message(control)
        if not body:
            return
        request: dict[str, Any] = marshal.loads(body)  # noqa: S302 - from the host
        del body
        ward = Ward(
            request, control, frames, namespaces, memory.idle_bytes - setup["overhead_bytes"]
        )
        try:
            ward.run()
        except SpawnerLostError:
            if ward.out_of_memory():
                ward.lose()
            raise
        ward.end()
        ward.skip_pieces()
        namespaces.close()


def read_message(control: int) -> bytearray:
    """One message of the host's; nothing when it hung up."""
    header = read_exactly(control, 4)
    size = int.from_bytes(header, "big")
    body = read_into(control, size) if len(header) == 4 else bytearray()
    return body if len(body) == size else bytearray()


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


class LaneMemory:
    """The memory of the lane between two programs.

    Attributes:
        idle_bytes: what was in use before the first.
        left_bytes: what the counters may have grown by although nothing was left.
    """

    def __init__(self) -> None:
        page_bytes = PROCESSOR_PAGES * posix.sysconf("SC_PAGE_SIZE")
        self.left_bytes = LEFT_BYTES + page_bytes * posix.sysconf("SC_NPROCESSORS_ONLN")
        self.idle_bytes = self.used_bytes = memory_in_use()
        self.held_bytes = memory_held()

    def is_free(self) -> bool:
        """Whether what the last program held was given back, or is within a moment.

        The kernel frees some of it, such as shared memory segments, after the namespaces are gone.
        """
        used_bytes = memory_in_use()
        if used_bytes > self.used_bytes + self.left_bytes:
            until = time.monotonic() + FREED_S
            while memory_held() > self.held_bytes + self.left_bytes:
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


if __name__ == "__main__":
    _request = boot_lane()
    if _request is None:
        posix._exit(0)  # noqa: SLF001 - os._exit under its built-in name

"""The spawner of a lane: makes namespaces for one program after the other, and processes in them.

It never sees what a program is: a program is a copy of it, and must find nothing there of those
before. For each one it makes an **init**, which is process 1 of new user, pid, mount, ipc and uts
namespaces, does nothing but reap orphans, and takes everything along when it is killed; and a
**runner**, a copy of the spawner that enters them, mounts what is the program's own, gives up all
its rights, and then waits on a channel to be told by the supervisor what to become.

The supervisor asks in messages of one byte: ``M`` for one more process in the namespaces, ``E`` for
their end. It is told ``N``, the number of a process and its channel, ``!`` when there can be none,
``S``, number and status when one has ended, and ``G`` when the namespaces are gone.
"""

import _signal  # type: ignore[import-not-found]  # typeshed has no stub for the built-in module
import _socket
import gc
import marshal
import posix
import select

from crucible.executor.jail.account import write_account
from crucible.executor.jail.become import enter_child, execute
from crucible.executor.jail.kernel import (
    WORK,
    drain,
    kill_others,
    others_alive,
    read_exactly,
    set_dumpable,
    write_all,
)
from crucible.executor.jail.namespaces import (
    NEW_IPC,
    NEW_MOUNTS,
    NEW_PIDS,
    NEW_USERS,
    NEW_UTS,
    become_user,
    demand,
    drop_capabilities,
    restrict_calls,
    start_init,
    write_map,
)
from crucible.executor.jail.run import Run
from crucible.executor.jail.startup import listen_for_ends
from crucible.executor.jail.tree import make_private

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: The user ids that programs take in turn, as they see them and as the spawner does.
FIRST_ID, IDS = 20_000, 1024
#: What a program sees as root: nobody. Pseudo-terminals cannot be had where there is none.
NO_ROOT = 1
#: How a runner exits that was not told what to become, or could not lay its files.
HUNG_UP, NO_ROOM = 3, 4
#: The kernel's killer prefers a program, then the spawner, to the supervisor: that one is to tell.
OOM_SCORE = b"300"
#: By their names in ``/proc``, in the order in which they can be entered.
NAMESPACES = ("user", "mnt", "ipc", "uts", "pid")
ALL = NEW_USERS | NEW_PIDS | NEW_MOUNTS | NEW_IPC | NEW_UTS


class Spawner:
    """Where the namespaces of programs come from.

    Attributes:
        init: process 1 of those there are now.
        uid: the user of the program in them.
        doors: descriptors by which they are entered, that of users first and that of pids last.
    """

    def __init__(self, setup: "dict[str, Any]", supervisor: "_socket.socket") -> None:
        self.setup = setup
        self.supervisor = supervisor
        self.init = 0
        self.uid = 0
        self.doors: list[int] = []
        #: Processes started in the namespaces there are now, in order.
        self.runners: list[int] = []
        self.wakeup = listen_for_ends()
        self.own_pids = posix.open("/proc/self/ns/pid", posix.O_RDONLY | posix.O_CLOEXEC)
        self.poll = select.poll()
        self.poll.register(supervisor.fileno(), select.POLLIN)
        self.poll.register(self.wakeup, select.POLLIN)

    def serve(self) -> "dict[str, Any] | None":
        """Make namespaces until the lane ends (None); in a runner, the request it is for."""
        for number in range(self.setup["programs"]):
            self.uid = FIRST_ID + number % IDS
            self.make_namespaces()
            runner = self.start_runner(first=True)
            if runner is not None:
                return runner.serve()
            runner = self.attend()
            if runner is not None:
                return runner.serve()
        return None

    def make_namespaces(self) -> None:
        """Start process 1 of new ones, as the program's user."""
        # Where nobody listens for the ends of its children they leave no zombies.
        _signal.signal(_signal.SIGCHLD, _signal.SIG_IGN)
        # The right to be root again stays: a saved id is enough for that.
        posix.setresgid(self.uid, self.uid, 0)
        posix.setresuid(self.uid, self.uid, 0)
        self.init = start_init(ALL)
        posix.setresuid(0, 0, 0)
        posix.setresgid(0, 0, 0)
        _signal.signal(_signal.SIGCHLD, lambda *_: None)
        # Its files in /proc are this user's only while the memory, which is this process's, may be
        # looked at.
        set_dumpable(1)
        for which in ("gid_map", "uid_map"):
            write_map(self.init, which, f"0 {NO_ROOT} 1\n{self.uid} {self.uid} 1")
        flags = posix.O_RDONLY | posix.O_CLOEXEC
        self.doors = [posix.open(f"/proc/{self.init}/ns/{name}", flags) for name in NAMESPACES]
        set_dumpable(0)

    def start_runner(self, *, first: bool) -> "Runner | None":
        """Fork a process into the namespaces and hand its channel over; the runner in the child."""
        ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM)
        demand("setns", self.doors[-1], NEW_PIDS)
        try:
            pid = posix.fork()
        except OSError:
            pid = -1
        if pid == 0:
            return Runner(self.setup, self.uid, self.doors[:-1], theirs, first=first)
        demand("setns", self.own_pids, NEW_PIDS)
        theirs.close()
        if pid < 0:
            self.tell(b"!")
        else:
            self.runners.append(pid)
            self.tell(b"N" + bytes((len(self.runners),)), ours.fileno())
        ours.close()
        return None

    def tell(self, message: bytes, *descriptors: int) -> None:
        """Send the supervisor a message, with descriptors."""
        send_message(self.supervisor, message, descriptors)

    def attend(self) -> "Runner | None":
        """Do what the supervisor asks until the namespaces are gone; in a child, its runner."""
        while self.init:
            for fd, _ in self.poll.poll():
                if fd == self.wakeup:
                    drain(fd)
                    self.reap()
                    continue
                asked = self.supervisor.recv(1)
                if not asked:
                    posix._exit(0)  # noqa: SLF001 - os._exit under its built-in name
                if asked == b"E" and self.init:
                    posix.kill(self.init, _signal.SIGKILL)
                elif asked == b"M":
                    runner = self.start_runner(first=False)
                    if runner is not None:
                        return runner
        for fd in self.doors:
            posix.close(fd)
        self.runners = []
        self.tell(b"G")
        return None

    def reap(self) -> None:
        """Tell the end of every process of the program that was started here."""
        while True:
            try:
                pid, status = posix.waitpid(-1, posix.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self.init:
                self.init = 0
            elif pid in self.runners:
                number = self.runners.index(pid) + 1
                self.tell(b"S" + bytes((number,)) + status.to_bytes(4, "big"))


def send_message(
    channel: "_socket.socket", message: bytes, descriptors: "tuple[int, ...]" = ()
) -> None:
    """Send a message with descriptors."""
    packed = b"".join(fd.to_bytes(4, "little") for fd in descriptors)
    ancillary = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, packed)] if packed else []
    channel.sendmsg([message], ancillary)


def receive_message(channel: "_socket.socket", size: int) -> "tuple[bytes, list[int]]":
    """A message of at most so many bytes, empty at the end, and the descriptors with it."""
    message, ancillary, _, _ = channel.recvmsg(size, 256, _socket.MSG_CMSG_CLOEXEC)
    packed = b"".join(data for _, _, data in ancillary)
    return message, [
        int.from_bytes(packed[at : at + 4], "little") for at in range(0, len(packed), 4)
    ]


class Runner(Run):
    """A process in a program's namespaces, until it becomes the program."""

    def __init__(
        self,
        setup: "dict[str, Any]",
        uid: int,
        doors: "list[int]",
        channel: "_socket.socket",
        *,
        first: bool,
    ) -> None:
        super().__init__({}, WORK)
        self.channel = channel
        _signal.set_wakeup_fd(-1)
        for fd in doors:
            demand("setns", fd, 0)
        become_user(uid)
        if first:
            make_private(setup, uid)
        drop_capabilities(setup["last_capability"])
        restrict_calls(setup["filter"])
        if first:
            posix.mkdir(WORK, 0o755)
            if setup["account"]:
                write_account()
        flags = posix.O_PATH | posix.O_CLOEXEC
        disks = (posix.open("/tmp", flags), posix.open("/dev/shm", flags))  # noqa: S108 - inside
        send_message(self.channel, b"r", disks)

    def serve(self) -> "dict[str, Any] | None":
        """Do as told; returns what is to be run by this very interpreter."""
        header, descriptors = receive_message(self.channel, 8)
        if len(header) < 8:
            posix._exit(HUNG_UP)  # noqa: SLF001 - os._exit under its built-in name
        size = int.from_bytes(header, "big")
        body = read_exactly(self.channel.fileno(), size)
        if len(body) < size:
            posix._exit(HUNG_UP)  # noqa: SLF001 - os._exit under its built-in name
        self.request = marshal.loads(body)  # noqa: S302 - from the supervisor
        del body
        if "collect" in self.request:
            self.collect(*descriptors)
        try:
            self.write_files(0o777, 0o644)
        except OSError:
            posix._exit(NO_ROOM)  # noqa: SLF001 - os._exit under its built-in name
        self.limit()
        gc.freeze()
        enter_child(*descriptors)
        posix.chdir(WORK)
        if not self.request["warm"]:
            execute(self.request["argv"], self.request["env"])
        return self.request

    def collect(self, frames: int) -> None:
        """Kill every other process of the program, and hand back what it was to leave."""
        kill_others()
        while others_alive():
            select.poll().poll(1)
        self.frames = frames
        if self.request["send"]:
            self.send_files()
        posix._exit(0)  # noqa: SLF001 - os._exit under its built-in name

    def emit(self, kind: bytes, payload: bytes) -> None:
        """Send one frame to the host."""
        write_all(self.frames, kind + len(payload).to_bytes(4, "big") + payload)

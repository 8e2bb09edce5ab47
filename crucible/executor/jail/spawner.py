"""The spawner of a lane: makes namespaces for one program after the other, and processes in them.

It never sees what a program is: a program is a copy of it, and must find nothing there of those
before. For each one it makes an **init**, which is process 1 of new user, pid, mount, ipc and uts
namespaces, does nothing but reap orphans, and takes everything along when it is killed. It enters
these itself, all but that of users, and mounts what is the program's own: each page that a copy of
it writes to has to be copied. Then it forks a **runner**, which enters the last one, takes the
program's pipes as its standard descriptors, gives up all its rights, and waits on a channel for a
request of the supervisor's.

The supervisor sends commands of one byte: ``M`` for one more process in the namespaces, ``E`` for
their end. The spawner reports ``N`` with the number of a process and its channel (and with the
first one the file systems and the pipes of the program), ``!`` when there can be none, ``S`` with
number and status when one has ended, and ``G`` when the namespaces are gone.
"""

import _signal  # type: ignore[import-not-found]  # typeshed has no stub for the built-in module
import _socket
import gc
import posix
import select

from crucible.executor.jail.account import account_of, open_account
from crucible.executor.jail.become import settle
from crucible.executor.jail.identity import FIRST_ID, IDS, NO_ROOT, PROGRAM_OOM_SCORE
from crucible.executor.jail.kernel import PR_SET_DUMPABLE, WORK, call_libc, look_up, set_dumpable
from crucible.executor.jail.messages import receive_message, send_message
from crucible.executor.jail.namespaces import (
    NEW_IPC,
    NEW_MOUNTS,
    NEW_PIDS,
    NEW_USERS,
    NEW_UTS,
    SIG_DFL,
    SIG_IGN,
    SIGCHLD,
    demand,
    make_calls,
    rights_to_give_up,
    start_init,
    write_map,
)
from crucible.executor.jail.run import make_pipes
from crucible.executor.jail.runner import FIRST_BYTES, Runner
from crucible.executor.jail.tree import make_private, processes_to_show

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from crucible.executor.jail.namespaces import Call

#: What copies of the spawner call of the C library; looked up in each it would cost a tenth of a
#: millisecond.
CALLED = ("setrlimit",)
#: Those that the spawner is in with a program, with their names in ``/proc``.
SHARED = {"mnt": NEW_MOUNTS, "ipc": NEW_IPC, "uts": NEW_UTS, "pid": NEW_PIDS}
ALL = NEW_USERS | NEW_PIDS | NEW_MOUNTS | NEW_IPC | NEW_UTS
CLOSING = posix.O_RDONLY | posix.O_CLOEXEC


class Spawner:
    """Where the namespaces of programs come from.

    Attributes:
        init: process 1 of those there are now.
        uid: the user of the program in them.
        door: descriptor by which the one of users is entered.
        home: those by which the spawner comes back into its own, with what each is of.
        runner: what a copy of it is to be, made before there is one.
        ours: this side's ends of the program's pipes.
        theirs: the program's.
        ends: descriptors that become readable when a process ends, each with its id.
    """

    def __init__(self, setup: "dict[str, Any]", supervisor: "_socket.socket") -> None:
        self.setup = setup
        self.supervisor = supervisor
        self.ours: tuple[int, ...] = ()
        self.theirs: tuple[int, ...] = ()
        self.ends: dict[int, int] = {}
        self.calls: list[Call] = []
        self.init = 0
        self.uid = 0
        self.door = -1
        self.runner = Runner({}, WORK)
        self.rights = rights_to_give_up(setup["last_capability"], setup["filter"])
        self.processes = processes_to_show(setup["covers"], setup["read_only"])
        warm_up_calls()
        #: Processes started in the namespaces there are now, in order.
        self.runners: list[int] = []
        self.disks: tuple[int, ...] = ()
        self.home = [
            (posix.open(f"/proc/self/ns/{name}", CLOSING), kind) for name, kind in SHARED.items()
        ]
        self.account = open_account() if setup["account"] else ()
        self.poll = select.poll()
        self.poll.register(supervisor.fileno(), select.POLLIN)
        # A collection here would move what a program must not find among its own objects.
        gc.disable()
        settle()

    def serve(self) -> "dict[str, Any] | None":
        """Make namespaces until the lane ends (None); in a runner, the request it is for."""
        for number in range(self.setup["programs"]):
            self.uid = FIRST_ID + number % IDS
            self.make_namespaces()
            runner = self.start_runner() or self.attend()
            if runner is not None:
                return runner.serve()
        return None

    def make_namespaces(self) -> None:
        """Start process 1 of new ones, as the program's user."""
        # A process that ignores the ends of its children has no zombies. Init keeps this; the
        # interpreter does not see it, and has nothing to set right in a program.
        call_libc("signal", SIGCHLD, SIG_IGN)
        # The right to be root again stays: a saved id is enough for that.
        posix.setresgid(self.uid, self.uid, 0)
        posix.setresuid(self.uid, self.uid, 0)
        self.init = start_init(ALL)
        # The program's own, so that it may open /dev/stdin as any other file; and not init's, which
        # would keep them open.
        self.ours, self.theirs = make_pipes()
        posix.setresuid(0, 0, 0)
        posix.setresgid(0, 0, 0)
        call_libc("signal", SIGCHLD, SIG_DFL)
        # Its files in /proc are this user's only while the memory, which is this process's, may be
        # looked at; so are its namespaces.
        set_dumpable(1)
        for which in ("gid_map", "uid_map"):
            write_map(self.init, which, f"0 {NO_ROOT} 1\n{self.uid} {self.uid} 1")
        self.door = posix.open(f"/proc/{self.init}/ns/user", CLOSING)
        demand("setns", self.watch(self.init), NEW_MOUNTS | NEW_IPC | NEW_UTS | NEW_PIDS)
        set_dumpable(0)
        for fd, text in zip(self.account, account_of(self.uid, self.uid), strict=False):
            posix.pwrite(fd, text, 0)
        self.disks = make_private(self.setup, self.uid)

    def watch(self, pid: int) -> int:
        """Listen for the end of a child; the descriptor that is listened to."""
        fd = posix.pidfd_open(pid)
        self.ends[fd] = pid
        self.poll.register(fd, select.POLLIN)
        return fd

    def start_runner(self) -> "Runner | None":
        """Fork a process into the namespaces and hand its channel over; the runner in the child."""
        ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM)
        self.calls = self.calls_of_runner(theirs.fileno())
        self.runner.pair = ours, theirs
        self.runner.first = not self.runners
        try:
            pid = posix.fork()
        except OSError:
            pid = -1
        if pid == 0:
            make_calls(self.calls)
            return self.runner
        theirs.close()
        if pid < 0:
            self.report(b"!")
        else:
            self.watch(pid)
            self.runners.append(pid)
            message = b"N" + bytes((len(self.runners),))
            self.report(message, ours.fileno(), *self.disks, *self.ours)
            self.close_handed_over()
        ours.close()
        return None

    def calls_of_runner(self, channel: int) -> "list[Call]":
        """What a runner calls of the C library before it does anything of its own.

        Made before the fork: each object that the copy looks at costs it a page, and these lie
        together.
        """
        calls: list[Call] = [
            *(() if self.runners else self.processes),
            (look_up("setns"), (self.door, NEW_USERS)),
            (look_up("setresgid"), (self.uid, self.uid, self.uid)),
            (look_up("setresuid"), (self.uid, self.uid, self.uid)),
            *self.rights,
        ]
        if not self.runners:
            # While it is alone in its namespaces it may be looked at; one that comes later, to
            # collect files, may not: it has the descriptor of the frames.
            calls += [
                (look_up("setsid"), ()),
                (look_up("chdir"), (WORK.encode(),)),
                (look_up("prctl"), (PR_SET_DUMPABLE, 1, 0, 0, 0)),
                # The file is closed with all others that are not the program's.
                (look_up("open"), (b"/proc/self/oom_score_adj", posix.O_WRONLY)),
                (look_up("write"), (lowest_free(), PROGRAM_OOM_SCORE, len(PROGRAM_OOM_SCORE))),
                # The last, since complaints go to standard error.
                *((look_up("dup2"), (fd, to)) for to, fd in enumerate(self.theirs)),
            ]
        calls.append((look_up("write"), (channel, b"r", 1)))
        return calls

    def close_handed_over(self) -> None:
        """Close the descriptors that the supervisor and the program have by now."""
        for fd in (*self.disks, *self.ours, *self.theirs):
            posix.close(fd)
        self.disks = self.ours = self.theirs = ()

    def come_home(self) -> None:
        """Leave the namespaces of a program that has ended: what was mounted there goes."""
        posix.close(self.door)
        for fd, kind in self.home:
            demand("setns", fd, kind)

    def report(self, message: bytes, *descriptors: int) -> None:
        """Send the supervisor a message, with descriptors."""
        send_message(self.supervisor, message, descriptors)

    def attend(self) -> "Runner | None":
        """Do what the supervisor asks until the namespaces are gone; in a child, its runner."""
        while self.init:
            for fd, _ in self.poll.poll():
                if fd in self.ends:
                    self.reap(fd)
                    continue
                asked = self.supervisor.recv(1)
                if not asked:
                    posix._exit(0)  # noqa: SLF001 - os._exit under its built-in name
                if asked == b"E" and self.init:
                    posix.kill(self.init, _signal.SIGKILL)
                elif asked == b"M":
                    runner = self.start_runner()
                    if runner is not None:
                        return runner
        self.come_home()
        self.runners = []
        self.report(b"G")
        return None

    def reap(self, fd: int) -> None:
        """Take note of the end of a process; it is reported unless it is init's.

        The kernel lets no init go before all others of its namespace have been waited for.
        """
        pid, status = posix.waitpid(self.ends.pop(fd), 0)
        self.poll.unregister(fd)
        posix.close(fd)
        if pid == self.init:
            self.init = 0
        else:
            number = self.runners.index(pid) + 1
            self.report(b"S" + bytes((number,)) + status.to_bytes(4, "big"))


def lowest_free() -> int:
    """The descriptor that the next file gets, here and in a copy of this process."""
    fd = posix.dup(0)
    posix.close(fd)
    return fd


def warm_up_calls() -> None:
    """Call, or look up, what copies of the spawner are going to."""
    for name in CALLED:
        look_up(name)
    posix.closerange(4095, 4096)
    for name in ("chdir", "dup2", "setns", "open", "setresgid", "setresuid", "setsid", "write"):
        look_up(name)
    ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM)
    send_message(ours, b"r")
    receive_message(theirs, FIRST_BYTES + 8)
    ours.close()
    theirs.close()

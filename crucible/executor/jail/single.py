# ruff: noqa: S108 - paths inside the sandbox, where nobody else is
"""The one program of a sandbox: asked for, watched, stopped, and judged by the cgroup's account."""

import marshal
import posix
import select
import time

from crucible.executor.jail.account import ACCOUNT, write_account
from crucible.executor.jail.collect import empty
from crucible.executor.jail.kernel import (
    WORK,
    cpu_time,
    drain,
    highest_memory,
    is_full,
    kill_others,
    memory_in_use,
    oom_kills,
    others_alive,
    own_code,
    pids_in_use,
    read_exactly,
    read_into,
    refused_forks,
    write_all,
)
from crucible.executor.jail.kernel_memory import KernelMemory
from crucible.executor.jail.run import Run
from crucible.executor.jail.startup import listen_for_ends, take_over

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: Seconds that children of a program that has ended may go on writing before they are killed.
LINGER_S = 0.05
#: What is sent in the place of a length: have the program stopped, which took too long to answer;
#: and nothing more comes for it, which is said once it has ended.
STOP, DONE = 0xFFFFFFFF, 0xFFFFFFFE
#: Seconds from the start to the first look at time and counts; many programs have ended by then.
FIRST_LOOK_S = 0.01
#: Seconds from the end frame to the exit: the engine's work on it would delay the answer.
YIELD_S = 0.01


def send(frames: int, kind: bytes, payload: bytes) -> None:
    """Send one frame to the host."""
    write_all(frames, kind + len(payload).to_bytes(4, "big") + payload)


class Single(Run):
    """The program everything else in the sandbox belongs to.

    Attributes:
        overhead: processes of the sandbox that are not the program's.
        highest_before: most memory the sandbox ever had when this began; 0 for the first in it.
        seen_bytes: most of the sandbox's memory at any look since then.
    """

    overhead = 1

    def __init__(
        self,
        request: "dict[str, Any]",
        control: int,
        frames: int,
        wakeup: int,
        highest_before: int = 0,
    ) -> None:
        super().__init__(request, WORK, frames)
        self.control = control
        self.wakeup = wakeup
        self.ended = False
        self.poll = select.poll()
        self.started = time.monotonic()
        self.cpu_base = cpu_time()
        self.oom_base = oom_kills()
        self.pids_base = refused_forks()
        self.kernel_memory = KernelMemory(request["memory_bytes"], self.started, self.cpu_base)
        self.next_count = 0.0
        #: More pieces may come from the host.
        self.talks: bool = request["talks"]
        self.highest_before = highest_before
        self.seen_bytes = 0

    def emit(self, kind: bytes, payload: bytes) -> None:
        """Send one frame to the host."""
        send(self.frames, kind, payload)

    def forget(self, fd: int) -> None:
        """Stop listening to a descriptor."""
        try:
            self.poll.unregister(fd)
        except KeyError:
            return

    def stop(self, reason: str) -> None:
        """Kill the program for ``reason``; the first reason stays."""
        if self.reason == "exit":
            self.reason = reason
        kill_others()

    def wait(self, most_ms: float) -> "list[tuple[int, int]]":
        """Wait for something to happen, at most so many milliseconds."""
        return self.poll.poll(most_ms)

    def hear(self) -> None:
        """Take note that a child has ended."""
        drain(self.wakeup)

    def reap(self) -> None:
        """Collect every zombie; the program's own status among them."""
        while True:
            try:
                pid, status = posix.waitpid(-1, posix.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self.main and not self.ended:
                self.status, self.ended = status, True

    def watch(self) -> None:
        """Move bytes and keep time until the program has ended or was stopped."""
        self.ended = False
        for fd in (*self.pipes, self.wakeup):
            self.poll.register(fd, select.POLLIN)
        self.poll.register(self.control, select.POLLIN if self.talks else 0)
        if self.stdin:
            self.poll.register(self.stdin_fd, select.POLLOUT)
        next_look = self.started + FIRST_LOOK_S
        while not self.ended:
            now = time.monotonic()
            if now >= next_look:
                next_look = now + self.look(now)
            for fd, events in self.wait(max(0.0, next_look - now) * 1000 + 1):
                self.handle(fd, events)
            self.reap()

    def handle(self, fd: int, events: int) -> None:
        """Do what one descriptor is ready for."""
        if fd == self.control and events & select.POLLIN and self.talks:
            self.take_piece()
        elif fd == self.control:
            self.stop("abandoned")
            self.forget(fd)
        elif fd == self.wakeup:
            self.hear()
        elif fd == self.stdin_fd:
            self.write_stdin()
            self.wait_for_stdin()
        elif fd in self.pipes:
            self.read_output(fd)

    def take_piece(self) -> None:
        """Take what the host has for the program: a piece of standard input, its end, or a stop.

        All of it, whether or not the program reads: a stop may be behind it.
        """
        header = read_exactly(self.control, 4)
        size = int.from_bytes(header, "big")
        if len(header) < 4:
            self.talks = False
            self.stop("abandoned")
            self.forget(self.control)
        elif size == STOP:
            self.stop("wall")
        elif size == DONE:
            self.talks = False
        elif size:
            piece = read_into(self.control, size)
            if self.stdin_fd >= 0:
                self.stdin = memoryview(bytes(self.stdin) + bytes(piece))
        else:
            self.more_stdin = False
            if not self.stdin:
                self.close_stdin()
        self.wait_for_stdin()

    def wait_for_stdin(self) -> None:
        """Listen for the program to read what there is for it, if there is anything."""
        if self.stdin_fd >= 0 and self.stdin:
            self.poll.register(self.stdin_fd, select.POLLOUT)
        elif self.stdin_fd >= 0:
            self.forget(self.stdin_fd)

    def skip_pieces(self) -> None:
        """Read over what the host has still sent for a program that has ended."""
        while self.talks:
            header = read_exactly(self.control, 4)
            size = int.from_bytes(header, "big")
            if len(header) < 4 or size == DONE:
                self.talks = False
            elif size != STOP:
                read_into(self.control, size)

    def look(self, now: float) -> float:
        """Check time and counts; seconds until the next look can find anything."""
        self.seen_bytes = max(self.seen_bytes, memory_in_use())
        left_s: float = self.started + self.request["wall_s"] - now
        if left_s <= 0:
            self.stop("wall")
            return 1.0
        if self.kernel_memory.exceeded(now):
            self.stop("kernel_memory")
            return 1.0
        if now < self.next_count:
            return min(left_s, self.next_count - now, self.kernel_memory.pace_s)
        cpu_left_s = self.request["cpu_s"] - (cpu_time() - self.cpu_base)
        if cpu_left_s <= 0:
            self.stop("cpu")
            return 1.0
        if self.request["talks"]:
            self.tell_used()
        seen = pids_in_use() or 1
        self.processes = max(self.processes, seen - self.overhead)
        pace_s: float = cpu_left_s / self.request["cpus"]
        self.next_count = now + min(max(0.01, pace_s), 0.25)
        return min(left_s, self.next_count - now, self.kernel_memory.pace_s)

    def tell_used(self) -> None:
        """Say how much of the processor a program that talks has used so far."""
        self.emit(b"U", int((cpu_time() - self.cpu_base) * 1e6).to_bytes(8, "big"))

    def read_output(self, fd: int) -> bool:
        """Pass on what a pipe holds; as of ``Run.read_output``."""
        if self.request["talks"] and self.pipes[fd] == b"O":
            # What was used until it spoke was not used for what it does next.
            self.tell_used()
        return super().read_output(fd)

    def finish(self) -> None:
        """Let children end their last words, kill what is left, and read the pipes empty."""
        self.close_stdin()
        self.disk_full = is_full("/tmp") or is_full("/dev/shm")
        until = time.monotonic() + LINGER_S
        while self.reason == "exit" and others_alive() and time.monotonic() < until:
            select.poll().poll(2)
            for fd in list(self.pipes):
                self.read_output(fd)
            self.reap()
        kill_others()
        while others_alive():
            self.reap()
        self.reap()
        self.read_rest()

    def conclude(self) -> None:
        """Hand back files, and say how it ended by the cgroup's account."""
        if self.leaves_files():
            self.send_files()
        self.send_end(
            wall_s=time.monotonic() - self.started,
            cpu_s=cpu_time() - self.cpu_base,
            peak_bytes=self.peak_bytes(),
            oom_kills=oom_kills() - self.oom_base,
            pids_hits=refused_forks() - self.pids_base,
        )

    def peak_bytes(self) -> int:
        """Highest memory while this program ran.

        The kernel has one highest value for the life of a sandbox, and none in cgroup v2 before
        Linux 5.19. A program that did not exceed those before it, or that has none, is known by
        what was seen while it ran.
        """
        highest = highest_memory()
        if highest == self.highest_before:
            return max(self.seen_bytes, memory_in_use())
        return highest

    def run(self) -> bool:
        """Run the request to its end; True in the child that is to become the program."""
        try:
            self.write_files(0o777, 0o644)
        except OSError:
            # The files do not fit: reported as the end of a program that filled its disk.
            self.status, self.disk_full = 1 << 8, True
            self.conclude()
            return False
        if self.start():
            return True
        self.watch()
        self.finish()
        self.conclude()
        return False


def boot() -> "dict[str, Any] | None":
    """Prepare, say so, run what is asked; in the child that is the program, its request."""
    control, frames = take_over()
    wakeup = listen_for_ends()
    posix.mkdir(WORK, 0o755)
    posix.chdir(WORK)
    write_account()
    send(frames, b"R", own_code())
    request = next_request(control, frames)
    highest = 0
    while request and request["again"]:
        # A compiler; the program it is for comes next, and finds nothing but what it brings.
        compiling = Single(request, control, frames, wakeup, highest)
        compiling.run()
        clear()
        highest = highest_memory()
        request = next_request(control, frames)
    if not request:
        return None
    return request if Single(request, control, frames, wakeup, highest).run() else None


def next_request(control: int, frames: int) -> "dict[str, Any] | None":
    """What the host asks next, acknowledged; None when it hung up instead."""
    header = read_exactly(control, 4)
    size = int.from_bytes(header, "big")
    body = read_into(control, size) if len(header) == 4 else bytearray()
    if not body or len(body) < size:
        return None
    send(frames, b"S", b"")
    request: dict[str, Any] = marshal.loads(body)  # noqa: S302 - from the host, which is trusted
    return request


def clear() -> None:
    """Make the file systems as they were at the start.

    Raises:
        OSError: something cannot be removed; this sandbox is of no use any more.
    """
    posix.chdir("/")
    for folder in ("/tmp", "/dev/shm", ACCOUNT):
        empty(folder)
    posix.mkdir(WORK, 0o755)
    posix.chdir(WORK)
    write_account()


if __name__ == "__main__":
    _request = boot()
    if _request is None:
        time.sleep(YIELD_S)
        posix._exit(0)  # noqa: SLF001 - os._exit under its built-in name

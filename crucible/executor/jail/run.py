# ruff: noqa: S108 - paths inside the sandbox, where nobody else is
"""One run: the program started, watched, stopped, and accounted for."""

import marshal
import posix
import select
import time

from crucible.executor.jail.become import enter_child, execute
from crucible.executor.jail.kernel import (
    cpu_time,
    drain,
    is_full,
    kill_others,
    make_folder,
    others_alive,
    read_counter,
    read_exactly,
    read_number,
    read_regular,
    write_all,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

CHUNK = 65536
#: Seconds that children of a program that has ended may go on writing before they are killed.
LINGER_S = 0.05
#: Bytes thrown away past the output cap before the program is stopped for it.
DISCARD_LIMIT = 16 << 20


class Supervisor:
    """One run: what was asked, what goes on, what came of it."""

    def __init__(self, control: int, frames: int) -> None:
        self.control = control
        self.frames = frames
        self.request: dict[str, Any] = {}
        self.totals: dict[bytes, int] = {}
        self.pipes: dict[int, bytes] = {}
        self.stdin = memoryview(b"")
        self.stdin_sent = 0
        self.stdin_fd = -1
        self.main = 0
        self.status: int | None = None
        self.reason = "exit"
        self.processes = 0
        self.cpu_base = 0.0

    def send(self, kind: bytes, payload: bytes) -> None:
        """Send one frame to the host."""
        write_all(self.frames, kind + len(payload).to_bytes(4, "big") + payload)

    def receive(self) -> bool:
        """Wait for the request; False when the host hung up instead."""
        header = read_exactly(self.control, 4)
        size = int.from_bytes(header, "big")
        body = read_exactly(self.control, size) if len(header) == 4 else b""
        if not body or len(body) < size:
            return False
        self.send(b"S", b"")
        self.request = marshal.loads(body)  # noqa: S302 - from the host, which is trusted
        return True

    def lay_files(self) -> None:
        """Write the program and the files beside it, before anything hostile runs."""
        for name, content in self.request["files"]:
            parts = name.split("/")
            for depth in range(1, len(parts)):
                make_folder("/".join(parts[:depth]))
            fd = posix.open(name, posix.O_WRONLY | posix.O_CREAT | posix.O_TRUNC, 0o644)
            write_all(fd, content)
            posix.close(fd)

    def start(self, argv: list[str] | None) -> bool:
        """Fork. In the child: never returns for a command, returns True for warm Python."""
        ends = [posix.pipe2(posix.O_CLOEXEC) for _ in range(3)]
        pid = posix.fork()
        if pid == 0:
            enter_child(ends[0][0], ends[1][1], ends[2][1])
            if argv is None:
                return True
            execute(argv, self.request["env"])
        self.main = pid
        self.status = None
        for fd in (ends[0][0], ends[1][1], ends[2][1]):
            posix.close(fd)
        self.pipes = {ends[1][0]: b"O", ends[2][0]: b"E"}
        self.stdin_fd = ends[0][1]
        for fd in (self.stdin_fd, *self.pipes):
            posix.set_blocking(fd, False)
        return False

    def read_output(self, fd: int) -> bool:
        """Pass on what a pipe holds, up to the cap; False once it is at its end."""
        kind = self.pipes[fd]
        try:
            data = posix.read(fd, CHUNK)
        except BlockingIOError:
            return True
        if not data:
            return False
        before = self.totals.get(kind, 0)
        self.totals[kind] = before + len(data)
        cap = self.request["output_bytes"]
        if before < cap:
            self.send(kind, data[: cap - before])
        if self.totals[kind] > cap + DISCARD_LIMIT:
            self.stop("output")
        return True

    def write_stdin(self) -> None:
        """Feed the program; its descriptor is closed at the end, or when nobody reads."""
        try:
            self.stdin_sent += posix.write(self.stdin_fd, self.stdin[self.stdin_sent :][:CHUNK])
        except BlockingIOError:
            return
        except OSError:
            self.stdin_sent = len(self.stdin)
        if self.stdin_sent >= len(self.stdin):
            posix.close(self.stdin_fd)
            self.stdin_fd = -1

    def stop(self, reason: str) -> None:
        """Kill the program for ``reason``; the first reason stays."""
        if self.reason == "exit":
            self.reason = reason
        kill_others()

    def reap(self) -> None:
        """Collect every zombie; the program's own status among them."""
        while True:
            try:
                pid, status = posix.waitpid(-1, posix.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self.main and self.status is None:
                self.status = status

    def watch(self, deadline: float, wakeup: int) -> None:
        """Move bytes and keep time until the program has ended or was stopped."""
        poll = select.poll()
        for fd in (*self.pipes, wakeup):
            poll.register(fd, select.POLLIN)
        poll.register(self.control, 0)
        poll.register(self.stdin_fd, select.POLLOUT)
        stdin_fd = self.stdin_fd
        next_look = 0.0
        while self.status is None:
            now = time.monotonic()
            if now >= next_look:
                next_look = now + self.look(now, deadline)
            for fd, _ in poll.poll(max(0.0, next_look - now) * 1000 + 1):
                if fd == self.control:
                    self.stop("abandoned")
                    poll.unregister(fd)
                elif fd == wakeup:
                    drain(fd)
                elif fd == stdin_fd:
                    self.write_stdin()
                    if self.stdin_fd < 0:
                        poll.unregister(fd)
                elif not self.read_output(fd):
                    poll.unregister(fd)
                    self.close_pipe(fd)
            self.reap()

    def look(self, now: float, deadline: float) -> float:
        """Check time and counts; seconds until the next look can find anything."""
        if now >= deadline:
            self.stop("wall")
            return 1.0
        used = cpu_time() - self.cpu_base
        left = self.request["cpu_s"] - used
        if left <= 0:
            self.stop("cpu")
            return 1.0
        seen = read_number("/pids/pids.current", "/pids.current") or 1
        self.processes = max(self.processes, seen - 1)
        return min(deadline - now, max(0.01, float(left / self.request["cpus"])), 0.25)

    def close_pipe(self, fd: int) -> None:
        """Forget a pipe that is at its end."""
        del self.pipes[fd]
        posix.close(fd)

    def finish_stage(self) -> bool:
        """Let children end their last words, kill what is left, and read the pipes empty."""
        if self.stdin_fd >= 0:
            posix.close(self.stdin_fd)
            self.stdin_fd = -1
        full = is_full("/tmp") or is_full("/dev/shm")
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
        for fd in list(self.pipes):
            before = -1
            while before != self.totals.get(self.pipes[fd], 0):
                before = self.totals.get(self.pipes[fd], 0)
                self.read_output(fd)
            self.close_pipe(fd)
        return full

    def send_files(self) -> None:
        """Hand back the regular files that were asked for, never through a link."""
        left = self.request["file_bytes"]
        for name in self.request["output_files"]:
            content = read_regular(name, left)
            if content is not None:
                left -= len(content)
                raw = name.encode()
                self.send(b"F", len(raw).to_bytes(2, "big") + raw + content)

    def send_end(self, started: float, stage: bytes, full: bool) -> None:
        """Say how it ended, in numbers only."""
        status = self.status or 0
        signal = posix.WTERMSIG(status) if posix.WIFSIGNALED(status) else 0
        code = posix.WEXITSTATUS(status) if posix.WIFEXITED(status) else -1
        oom = read_counter("oom_kill", "/memory/memory.oom_control", "/memory.events")
        hits = read_counter("max", "/pids/pids.events", "/pids.events")
        peak = read_number("/memory/memory.max_usage_in_bytes", "/memory.peak")
        self.send(
            b"X",
            b'{"stage":"%s","reason":"%s","exit_code":%d,"signal":%d,"wall_us":%d,"cpu_us":%d,'
            b'"memory_peak_bytes":%d,"oom_kills":%d,"pids_hits":%d,"processes":%d,'
            b'"disk_full":%s,"stdout_bytes":%d,"stderr_bytes":%d}'
            % (
                stage,
                self.reason.encode(),
                code,
                signal,
                (time.monotonic() - started) * 1e6,
                (cpu_time() - self.cpu_base) * 1e6,
                peak or 0,
                oom or 0,
                hits or 0,
                max(1, self.processes),
                b"true" if full else b"false",
                self.totals.get(b"O", 0),
                self.totals.get(b"E", 0),
            ),
        )

    def run(self, wakeup: int) -> bool:
        """Run the request to its end; True in the child that is to become the program."""
        started = time.monotonic()
        deadline = started + self.request["wall_s"]
        self.cpu_base = cpu_time()
        stage, full = b"run", False
        try:
            self.lay_files()
        except OSError:
            # The files do not fit: told as the end of a program that filled its disk.
            self.status, full = 1 << 8, True
        if self.request["compile"] and self.status is None:
            stage = b"compile"
            self.start(self.request["compile"])
            self.watch(deadline, wakeup)
            full = self.finish_stage()
        if self.status in (None, 0) and self.reason == "exit":
            stage = b"run"
            self.stdin = memoryview(self.request["stdin"])
            if self.start(None if self.request["warm"] else self.request["argv"]):
                return True
            self.watch(deadline, wakeup)
            full = self.finish_stage()
        self.send_files()
        self.send_end(started, stage, full)
        return False

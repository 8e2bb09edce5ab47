"""One program on its way: its files laid, itself started, fed, read, and accounted for.

How it is watched and ended is up to ``single``.
"""

import posix

from crucible.executor.jail.become import enter_child, execute
from crucible.executor.jail.kernel import (
    call_libc,
    make_folder,
    open_regular,
    reason_of,
    write_all,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

CHUNK = 65536
#: Bytes thrown away past the output cap before the program is stopped for it.
DISCARD_LIMIT = 16 << 20
RLIMIT_STACK = 3
#: What of the memory limit is no program's stack: process 1, code, a heap.
NO_STACK_BYTES = 24 << 20


class Run:
    """One request: what was asked, what goes on, what came of it."""

    def __init__(self, request: "dict[str, Any]", home: str, frames: int = -1) -> None:
        self.request = request
        self.home = home
        self.frames = frames
        self.stage = b"run"
        self.reason = "exit"
        self.main = 0
        self.status = 0
        self.processes = 1
        self.disk_full = False
        self.totals = {b"O": 0, b"E": 0}
        self.pipes: dict[int, bytes] = {}
        self.stdin = memoryview(b"")
        self.stdin_fd = -1

    def emit(self, kind: bytes, payload: bytes) -> None:
        """Send one frame about this run to the host."""
        raise NotImplementedError

    def forget(self, fd: int) -> None:
        """Stop listening to a descriptor that is about to be closed."""
        raise NotImplementedError

    def stop(self, reason: str) -> None:
        """Kill the program for ``reason``; the first reason stays."""
        raise NotImplementedError

    def limit(self) -> None:
        """In the child: a stack that goes as far as the memory, so that recursion may too.

        Less than all of it: a recursion without end is the program's SIGSEGV, not a want of memory.
        """
        memory = self.request["memory_bytes"]
        stack = max(memory // 2, memory - NO_STACK_BYTES)
        limits = stack.to_bytes(8, "little") + b"\xff" * 8
        call_libc("setrlimit", RLIMIT_STACK, limits)

    def write_files(self, folder_mode: int, file_mode: int) -> None:
        """Write the program and the files beside it, before anything of its runs."""
        for name, content in self.request["files"]:
            parts = name.split("/")
            for depth in range(1, len(parts)):
                make_folder(self.home + "/" + "/".join(parts[:depth]), folder_mode)
            flags = posix.O_WRONLY | posix.O_CREAT | posix.O_TRUNC
            mode = file_mode | (0o111 if name in self.request["executable"] else 0)
            fd = posix.open(self.home + "/" + name, flags, mode)
            write_all(fd, content)
            posix.close(fd)
        # All but the program's own need not be in memory twice.
        del self.request["files"][:-1]

    def start(self, stage: bytes) -> bool:
        """Fork. In the child: never returns for a command, returns True for warm Python."""
        self.stage = stage
        argv = self.request["argv" if stage == b"run" else "compile"]
        warm = stage == b"run" and self.request["warm"]
        theirs = self.open_pipes(self.request["stdin"] if stage == b"run" else b"")
        pid = posix.fork()
        if pid == 0:
            self.limit()
            enter_child(*theirs)
            posix.chdir(self.home)
            if warm:
                return True
            execute(argv, self.request["env"])
        self.main = pid
        for fd in theirs:
            posix.close(fd)
        return False

    def open_pipes(self, stdin: bytes) -> "tuple[int, int, int]":
        """Make the pipes of a stage and keep this side's ends; the program's ends."""
        ends = [posix.pipe2(posix.O_CLOEXEC) for _ in range(3)]
        self.pipes = {ends[1][0]: b"O", ends[2][0]: b"E"}
        for fd in self.pipes:
            posix.set_blocking(fd, False)
        self.stdin = memoryview(stdin)
        self.stdin_fd = ends[0][1]
        if self.stdin:
            posix.set_blocking(self.stdin_fd, False)
        else:
            self.close_stdin()
        return ends[0][0], ends[1][1], ends[2][1]

    def write_stdin(self) -> None:
        """Feed the program; its descriptor is closed at the end, or when nobody reads."""
        try:
            self.stdin = self.stdin[posix.write(self.stdin_fd, self.stdin[:CHUNK]) :]
        except BlockingIOError:
            return
        except OSError:
            self.stdin = memoryview(b"")
        if not self.stdin:
            self.close_stdin()

    def close_stdin(self) -> None:
        """Close the program's standard input."""
        if self.stdin_fd >= 0:
            self.forget(self.stdin_fd)
            posix.close(self.stdin_fd)
            self.stdin_fd = -1

    def read_output(self, fd: int) -> bool:
        """Pass on what a pipe holds, up to the cap; False once it is empty or was closed."""
        kind = self.pipes[fd]
        try:
            data = posix.read(fd, CHUNK)
        except BlockingIOError:
            return False
        if not data:
            self.close_pipe(fd)
            return False
        before = self.totals[kind]
        self.totals[kind] += len(data)
        cap = self.request["output_bytes"]
        if before < cap:
            self.emit(kind, data[: cap - before])
        if self.totals[kind] > cap + DISCARD_LIMIT:
            self.stop("output")
        return True

    def close_pipe(self, fd: int) -> None:
        """Close a pipe of the program's output."""
        self.forget(fd)
        del self.pipes[fd]
        posix.close(fd)

    def read_rest(self) -> None:
        """Nobody is left who writes: read the pipes empty and close them."""
        for fd in list(self.pipes):
            while self.read_output(fd):
                pass
        for fd in list(self.pipes):
            self.close_pipe(fd)

    def send_files(self) -> None:
        """Hand back the regular files that were asked for, or say why not; no link is followed."""
        left = self.request["file_bytes"]
        for name in self.request["output_files"]:
            raw = name.encode()
            head = len(raw).to_bytes(2, "big") + raw
            try:
                fd, size = open_regular(name, self.home)
            except OSError as error:
                self.emit(b"N", head + reason_of(error))
                continue
            if size > left:
                self.emit(b"N", head + b"too_large")
            else:
                left -= size
                self.emit_file(head, fd, size)
            posix.close(fd)

    def emit_file(self, head: bytes, fd: int, size: int) -> None:
        """Send one file to the host, in pieces: it may be larger than the memory that is left."""
        write_all(self.frames, b"F" + (len(head) + size).to_bytes(4, "big") + head)
        while data := posix.read(fd, CHUNK):
            write_all(self.frames, data)

    def send_end(
        self, *, wall_s: float, cpu_s: float, peak_bytes: int, oom_kills: int, pids_hits: int
    ) -> None:
        """Say how it ended, in numbers only."""
        status = self.status
        signal = posix.WTERMSIG(status) if posix.WIFSIGNALED(status) else 0
        code = posix.WEXITSTATUS(status) if posix.WIFEXITED(status) else -1
        self.emit(
            b"X",
            b'{"stage":"%s","reason":"%s","exit_code":%d,"signal":%d,"wall_us":%d,"cpu_us":%d,'
            b'"memory_peak_bytes":%d,"oom_kills":%d,"pids_hits":%d,"processes":%d,'
            b'"disk_full":%s,"stdout_bytes":%d,"stderr_bytes":%d}'
            % (
                self.stage,
                self.reason.encode(),
                code,
                signal,
                wall_s * 1e6,
                cpu_s * 1e6,
                peak_bytes,
                oom_kills,
                pids_hits,
                self.processes,
                b"true" if self.disk_full else b"false",
                self.totals[b"O"],
                self.totals[b"E"],
            ),
        )

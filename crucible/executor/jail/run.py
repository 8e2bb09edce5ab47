"""One program on its way: its files laid, itself started, fed, read, and accounted for.

How it is watched and ended is up to ``single``.
"""

import _signal  # type: ignore[import-not-found]  # typeshed has no stub for the built-in module
import posix

from crucible.executor.jail.become import enter_child, execute
from crucible.executor.jail.collect import (
    LAID_S,
    Finder,
    TooManyError,
    is_fit,
    is_pattern,
    tell,
)
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
        self.reason = "exit"
        self.main = 0
        self.status = 0
        self.processes = 1
        self.disk_full = False
        self.totals = {b"O": 0, b"E": 0}
        self.pipes: dict[int, bytes] = {}
        self.stdin = memoryview(b"")
        self.stdin_fd = -1
        #: More of standard input may come while the program runs.
        self.more_stdin = False

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
            if self.request["artifact_bytes"]:
                posix.utime(fd, (LAID_S, LAID_S))
            posix.close(fd)
        # All but what is about to be run from memory need not be in memory twice.
        del self.request["files"][: -1 if self.request["warm"] else None]

    def start(self) -> bool:
        """Fork. In the child: never returns for a command, returns True for warm Python."""
        theirs = self.open_pipes()
        pid = posix.fork()
        if pid == 0:
            self.limit()
            enter_child(*theirs)
            posix.chdir(self.home)
            if self.request["warm"]:
                _signal.signal(_signal.SIGINT, _signal.default_int_handler)
                return True
            execute(self.request["argv"], self.request["env"])
        self.main = pid
        for fd in theirs:
            posix.close(fd)
        return False

    def open_pipes(self) -> "tuple[int, int, int]":
        """Make the program's pipes and keep this side's ends; the program's ends."""
        ours, theirs = make_pipes()
        self.keep_pipes(*ours)
        return theirs

    def keep_pipes(self, stdin: int, stdout: int, stderr: int) -> None:
        """Have these as this side's ends of the program's pipes."""
        self.pipes = {stdout: b"O", stderr: b"E"}
        for fd in self.pipes:
            posix.set_blocking(fd, False)
        self.stdin = memoryview(self.request["stdin"])
        self.stdin_fd = stdin
        self.more_stdin = self.request["talks"]
        if self.stdin or self.more_stdin:
            posix.set_blocking(self.stdin_fd, False)
        else:
            self.close_stdin()

    def write_stdin(self) -> None:
        """Feed the program; its descriptor is closed at the end, or when nobody reads."""
        try:
            self.stdin = self.stdin[posix.write(self.stdin_fd, self.stdin[:CHUNK]) :]
        except BlockingIOError:
            return
        except OSError:
            # Nobody reads any more, whatever is still to come.
            self.stdin = memoryview(b"")
            self.close_stdin()
            return
        if not self.stdin and not self.more_stdin:
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

    def leaves_files(self) -> bool:
        """Whether files are to be handed back."""
        if self.request["artifact_bytes"]:
            return self.status == 0 and self.reason == "exit"
        return bool(self.request["output_files"])

    def send_files(self) -> None:
        """Hand back regular files, those asked for or those made, or say why not."""
        if self.request["artifact_bytes"]:
            self.send_artifact()
        else:
            self.send_output_files()

    def send_output_files(self) -> None:
        """Hand back what was asked for, by names and patterns."""
        finder = Finder(self.home)
        left = self.request["file_bytes"]
        sent: set[str] = set()
        for asked in self.request["output_files"]:
            names = finder.find(asked) if is_pattern(asked) else (asked,)
            found = False
            try:
                for name in names:
                    found = True
                    if name in sent:
                        continue
                    if len(sent) == self.request["files_most"]:
                        raise TooManyError
                    sent.add(name)
                    left -= self.send_file(b"F", name, left)
            except TooManyError:
                self.omit(asked, b"too_many")
                continue
            if finder.reason:
                self.omit(asked, finder.reason)
                finder.reason = b""
            elif not found:
                self.omit(asked, b"missing")

    def send_artifact(self) -> None:
        """Hand back every file that a compiler made."""
        left = self.request["artifact_bytes"]
        try:
            for number, name in enumerate(Finder(self.home).made()):
                if number == self.request["files_most"]:
                    raise TooManyError
                left -= self.send_file(b"A", name, left)
        except TooManyError:
            self.omit("", b"too_many")

    def send_file(self, kind: bytes, name: str, most: int) -> int:
        """Hand back one file of at most so many bytes, or say why not; how many it had."""
        if not is_fit(name):
            self.omit(name, b"bad_name")
            return 0
        try:
            fd, stat = open_regular(name, self.home)
        except OSError as error:
            self.omit(name, reason_of(error))
            return 0
        size = stat.st_size
        if size > most:
            self.omit(name, b"too_large")
            size = 0
        else:
            mark = (b"x" if stat.st_mode & 0o100 else b"-") if kind == b"A" else b""
            self.emit_file(kind, named(name.encode()) + mark, fd, size)
        posix.close(fd)
        return size

    def omit(self, name: str, reason: bytes) -> None:
        """Say why a file is not handed back."""
        self.emit(b"N", named(tell(name)) + reason)

    def emit_file(self, kind: bytes, head: bytes, fd: int, size: int) -> None:
        """Send one file to the host, in pieces: it may be larger than the memory that is left."""
        write_all(self.frames, kind + (len(head) + size).to_bytes(4, "big") + head)
        while size and (data := posix.read(fd, min(size, CHUNK))):
            write_all(self.frames, data)
            size -= len(data)

    def send_end(
        self, *, wall_s: float, cpu_s: float, peak_bytes: int, oom_kills: int, pids_hits: int
    ) -> None:
        """Say how it ended, in numbers only."""
        status = self.status
        signal = posix.WTERMSIG(status) if posix.WIFSIGNALED(status) else 0
        code = posix.WEXITSTATUS(status) if posix.WIFEXITED(status) else -1
        self.emit(
            b"X",
            b'{"reason":"%s","exit_code":%d,"signal":%d,"wall_us":%d,"cpu_us":%d,'
            b'"memory_peak_bytes":%d,"oom_kills":%d,"pids_hits":%d,"processes":%d,'
            b'"disk_full":%s,"stdout_bytes":%d,"stderr_bytes":%d}'
            % (
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


def make_pipes() -> "tuple[tuple[int, int, int], tuple[int, int, int]]":
    """Three pipes for standard input, output and error: this side's ends, and the program's."""
    ends = [posix.pipe2(posix.O_CLOEXEC) for _ in range(3)]
    return (ends[0][1], ends[1][0], ends[2][0]), (ends[0][0], ends[1][1], ends[2][1])


def named(name: bytes) -> bytes:
    """A name as frames have it: its length in two bytes, then itself."""
    return len(name).to_bytes(2, "big") + name

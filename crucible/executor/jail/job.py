"""One program of a shared sandbox, from its request to its end."""

import _signal  # type: ignore[import-not-found]  # typeshed has no stub for the built-in module
import posix
import resource
import time

from crucible.executor.jail.become import enter_child, execute
from crucible.executor.jail.kernel import (
    disk_usage,
    make_folder,
    read_regular,
    remove_tree,
    usage_of,
    write_all,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from crucible.executor.jail.server import Server

SLOTS = "/tmp/slots"  # noqa: S108 - inside the sandbox, where nobody else is
#: Where every program may write; a program's own things go when it ends.
PUBLIC = ("/tmp", "/dev/shm")  # noqa: S108 - inside the sandbox, where nobody else is
CHUNK = 65536
#: Bytes thrown away past the output cap before the program is stopped for it.
DISCARD_LIMIT = 16 << 20
#: Seconds between looks at memory and CPU time of a program.
LOOK_S = 0.02
#: A look at the disk takes longer: one in so many.
DISK_LOOKS = 16


class Job:
    """One program from request to end."""

    def __init__(self, server: "Server", request: "dict[str, Any]", uid: int) -> None:
        self.server = server
        self.request = request
        self.uid = uid
        self.number: int = request["number"]
        self.home = f"{SLOTS}/{self.number}"
        self.started = time.monotonic()
        self.deadline = self.started + request["wall_s"]
        self.next_look = self.started + LOOK_S
        self.stage = b"run"
        self.reason = "exit"
        self.totals = {b"O": 0, b"E": 0}
        self.pipes: dict[int, bytes] = {}
        self.stdin = memoryview(b"")
        self.stdin_sent = 0
        self.stdin_fd = -1
        self.main = 0
        self.status = 0
        self.cpu_s = 0.0
        self.live_cpu_s = 0.0
        self.peak_bytes = 0
        self.processes = 1
        self.disk_full = False
        self.looks = 0

    def lay_files(self) -> None:
        """Make the working folder, writable for the program's group, and write its files."""
        # The group a new file gets is the effective one: no right to change owners is needed.
        posix.setresgid(-1, self.uid, -1)
        mask = posix.umask(0)
        try:
            posix.mkdir(self.home, 0o770)
            for name, content in self.request["files"]:
                parts = name.split("/")
                for depth in range(1, len(parts)):
                    make_folder(self.home + "/" + "/".join(parts[:depth]), 0o770)
                path = self.home + "/" + name
                fd = posix.open(path, posix.O_WRONLY | posix.O_CREAT | posix.O_TRUNC, 0o664)
                write_all(fd, content)
                posix.close(fd)
        finally:
            posix.umask(mask)
            posix.setresgid(-1, 0, -1)

    def start(self, argv: list[str] | None) -> bool:
        """Fork. In the child: never returns for a command, returns True for warm Python."""
        ends = [posix.pipe2(posix.O_CLOEXEC) for _ in range(3)]
        pid = posix.fork()
        if pid == 0:
            self.limit()
            enter_child(ends[0][0], ends[1][1], ends[2][1], self.uid)
            posix.chdir(self.home)
            if argv is None:
                return True
            execute(argv, self.request["env"])
        self.main = pid
        for fd in (ends[0][0], ends[1][1], ends[2][1]):
            posix.close(fd)
        self.pipes = {ends[1][0]: b"O", ends[2][0]: b"E"}
        self.stdin_fd = ends[0][1]
        for fd in (self.stdin_fd, *self.pipes):
            posix.set_blocking(fd, False)
        return False

    def limit(self) -> None:
        """Limits of the kernel's that go by process or by user."""
        request = self.request
        resource.setrlimit(resource.RLIMIT_NPROC, (request["pids"], request["pids"]))
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
        resource.setrlimit(resource.RLIMIT_FSIZE, (request["disk_bytes"], request["disk_bytes"]))

    def read_output(self, fd: int) -> bool:
        """Pass on what a pipe holds, up to the cap; False once it is empty or at its end."""
        kind = self.pipes[fd]
        try:
            data = posix.read(fd, CHUNK)
        except BlockingIOError:
            return False
        if not data:
            self.server.forget(fd)
            del self.pipes[fd]
            posix.close(fd)
            return False
        before = self.totals[kind]
        self.totals[kind] += len(data)
        cap = self.request["output_bytes"]
        if before < cap:
            self.server.send(kind, self.number, data[: cap - before])
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
            self.close_stdin()

    def close_stdin(self) -> None:
        """Close the program's standard input."""
        if self.stdin_fd >= 0:
            self.server.forget(self.stdin_fd)
            posix.close(self.stdin_fd)
            self.stdin_fd = -1

    def stop(self, reason: str) -> None:
        """Kill the program for ``reason``; the first reason stays."""
        if self.reason == "exit":
            self.reason = reason
            self.kill_all()

    def kill_all(self) -> None:
        """Kill every process of the program's user: only that user, or root, could."""
        pid = posix.fork()
        if pid == 0:
            try:
                posix.setresuid(self.uid, self.uid, self.uid)
                posix.kill(-1, _signal.SIGKILL)
            except OSError:
                pass
            posix._exit(0)  # noqa: SLF001 - os._exit under its built-in name
        posix.waitpid(pid, 0)

    def look(self, now: float) -> None:
        """Check time and memory."""
        self.next_look = now + LOOK_S
        if now >= self.deadline:
            self.stop("wall")
            return
        _, processes, self.live_cpu_s, memory = usage_of(self.uid)
        self.processes = max(self.processes, processes)
        self.peak_bytes = max(self.peak_bytes, memory)
        if memory > self.request["memory_bytes"]:
            self.stop("memory")
        elif self.cpu_s + self.live_cpu_s > self.request["cpu_s"]:
            self.stop("cpu")
        self.looks += 1
        if self.looks % DISK_LOOKS == 0:
            self.check_disk()
            if self.disk_full:
                self.stop("disk")

    def check_disk(self) -> None:
        """Note when the files of the program, as far as they can be seen, are too many."""
        if disk_usage(self.home) + 4096 > self.request["disk_bytes"]:
            self.disk_full = True

    def finish_stage(self) -> None:
        """Kill what the program left, read its pipes empty, close them."""
        self.close_stdin()
        alive, count, _, _ = usage_of(self.uid)
        self.processes = max(self.processes, count + 1)
        if alive:
            self.kill_all()
        self.check_disk()
        for fd in list(self.pipes):
            while self.read_output(fd):
                pass
        for fd in self.pipes:
            self.server.forget(fd)
            posix.close(fd)
        self.pipes = {}

    def clean(self) -> None:
        """Remove the working folder: from here where that goes, else as its user."""
        if not remove_tree(self.home):
            self.remove_as_user(self.home)
            remove_tree(self.home)
        for folder in PUBLIC:
            for entry in posix.scandir(folder):
                if entry.stat(follow_symlinks=False).st_uid == self.uid:
                    self.remove_public(entry.path)

    def remove_public(self, path: str) -> None:
        """Remove what the program left where every program may write."""
        try:
            posix.unlink(path)
        except OSError:
            self.remove_as_user(path)
            remove_tree(path)

    def remove_as_user(self, path: str) -> None:
        """Remove what only the program's own user may reach."""
        pid = posix.fork()
        if pid == 0:
            try:
                posix.setresuid(self.uid, self.uid, self.uid)
                remove_tree(path)
            except OSError:
                pass
            posix._exit(0)  # noqa: SLF001 - os._exit under its built-in name
        posix.waitpid(pid, 0)

    def send_end(self) -> None:
        """Hand back files, clean up, say how it ended."""
        left = self.request["file_bytes"]
        for name in self.request["output_files"]:
            content = read_regular(name, left, self.home)
            if content is not None:
                left -= len(content)
                raw = name.encode()
                frame = len(raw).to_bytes(2, "big") + raw + content
                self.server.send(b"F", self.number, frame)
        self.clean()
        signal = posix.WTERMSIG(self.status) if posix.WIFSIGNALED(self.status) else 0
        code = posix.WEXITSTATUS(self.status) if posix.WIFEXITED(self.status) else -1
        oom = 1 if self.reason == "memory" else 0
        if signal == _signal.SIGKILL and self.reason == "exit":
            oom = self.server.new_oom_kills()
        # The kernel does not tell of a refused fork; a failed program as wide as it may be does.
        wide = self.status != 0 and self.processes >= self.request["pids"] - 1
        self.server.send(
            b"X",
            self.number,
            b'{"stage":"%s","reason":"%s","exit_code":%d,"signal":%d,"wall_us":%d,"cpu_us":%d,'
            b'"memory_peak_bytes":%d,"oom_kills":%d,"pids_hits":%d,"processes":%d,'
            b'"disk_full":%s,"stdout_bytes":%d,"stderr_bytes":%d}'
            % (
                self.stage,
                self.reason.encode(),
                code,
                signal,
                (time.monotonic() - self.started) * 1e6,
                self.cpu_s * 1e6,
                self.peak_bytes,
                oom,
                wide,
                self.processes,
                b"true" if self.disk_full else b"false",
                self.totals[b"O"],
                self.totals[b"E"],
            ),
        )

"""Process 1 of a shared sandbox: many trusted programs of one tenant, side by side.

Here process 1 is root inside the container, with nothing but the right to change user, because
each program gets a user id of its own that no other has at the same time. Frames carry the
number of the run in front of their payload.
"""

import _signal  # type: ignore[import-not-found]  # typeshed has no stub for the built-in module
import fcntl
import marshal
import posix
import resource
import select
import time

from crucible.executor.jail.become import enter_child, execute, warm_up
from crucible.executor.jail.kernel import (
    drain,
    make_folder,
    read_counter,
    read_regular,
    remove_tree,
    set_dumpable,
    usage_of,
    write_all,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SLOTS = "/tmp/slots"  # noqa: S108 - inside the sandbox, where nobody else is
#: Where every program may write; a program's own things go when it ends.
PUBLIC = ("/tmp", "/dev/shm")  # noqa: S108 - inside the sandbox, where nobody else is
CHUNK = 65536
#: Bytes thrown away past the output cap before the program is stopped for it.
DISCARD_LIMIT = 16 << 20
#: Seconds between looks at memory and CPU time of a program.
LOOK_S = 0.02


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
        processes, self.live_cpu_s, memory = usage_of(self.uid)
        self.processes = max(self.processes, processes)
        self.peak_bytes = max(self.peak_bytes, memory)
        if memory > self.request["memory_bytes"]:
            self.stop("memory")
        elif self.cpu_s + self.live_cpu_s > self.request["cpu_s"]:
            self.stop("cpu")

    def finish_stage(self) -> None:
        """Kill what the program left, read its pipes empty, close them."""
        self.close_stdin()
        if usage_of(self.uid)[0]:
            self.kill_all()
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
        self.server.send(
            b"X",
            self.number,
            b'{"stage":"%s","reason":"%s","exit_code":%d,"signal":%d,"wall_us":%d,"cpu_us":%d,'
            b'"memory_peak_bytes":%d,"oom_kills":%d,"pids_hits":0,"processes":%d,'
            b'"disk_full":false,"stdout_bytes":%d,"stderr_bytes":%d}'
            % (
                self.stage,
                self.reason.encode(),
                code,
                signal,
                (time.monotonic() - self.started) * 1e6,
                self.cpu_s * 1e6,
                self.peak_bytes,
                oom,
                self.processes,
                self.totals[b"O"],
                self.totals[b"E"],
            ),
        )


class Server:
    """Takes requests, runs them side by side, answers each on its end."""

    def __init__(self, control: int, frames: int, wakeup: int) -> None:
        self.control = control
        self.frames = frames
        self.wakeup = wakeup
        self.poll = select.epoll()
        self.jobs: dict[int, Job] = {}
        self.owners: dict[int, Job] = {}
        self.inbox = bytearray()
        self.served = 0
        self.oom_kills = 0
        posix.set_blocking(control, False)
        for fd in (control, wakeup):
            self.poll.register(fd, select.EPOLLIN)

    def send(self, kind: bytes, number: int, payload: bytes) -> None:
        """Send one frame to the host."""
        head = kind + (len(payload) + 4).to_bytes(4, "big") + number.to_bytes(4, "big")
        write_all(self.frames, head + payload)

    def forget(self, fd: int) -> None:
        """Stop listening to a descriptor."""
        if self.owners.pop(fd, None) is not None:
            self.poll.unregister(fd)

    def new_oom_kills(self) -> int:
        """Whether the kernel killed for memory since the last time this was asked."""
        seen = read_counter("oom_kill", "/memory/memory.oom_control", "/memory.events") or 0
        new, self.oom_kills = seen - self.oom_kills, seen
        return min(1, new)

    def serve(self) -> "dict[str, Any] | None":
        """Serve until the host hangs up (None), or this is a child: the request it is for."""
        while True:
            timeout = LOOK_S if self.jobs else -1
            for fd, _ in self.poll.poll(timeout):
                if fd == self.wakeup:
                    drain(fd)
                elif fd == self.control:
                    if not self.read_requests():
                        return None
                elif (job := self.owners.get(fd)) is not None:
                    if fd == job.stdin_fd:
                        job.write_stdin()
                    else:
                        job.read_output(fd)
            request = self.begin_waiting() or self.reap()
            if request:
                return request
            now = time.monotonic()
            for job in [job for job in self.jobs.values() if now >= job.next_look]:
                job.look(now)

    def read_requests(self) -> bool:
        """Take in what the host has sent; False once it hung up."""
        try:
            data = posix.read(self.control, 1 << 20)
        except BlockingIOError:
            return True
        self.inbox += data
        return bool(data)

    def begin_waiting(self) -> "dict[str, Any] | None":
        """Begin every request that is complete; in a child, the request it is for."""
        while len(self.inbox) >= 4:
            size = int.from_bytes(self.inbox[:4], "big")
            if len(self.inbox) < 4 + size:
                break
            request = marshal.loads(self.inbox[4 : 4 + size])  # noqa: S302 - from the host
            del self.inbox[: 4 + size]
            if "stop" in request:
                if request["stop"] in self.jobs:
                    self.jobs[request["stop"]].stop("abandoned")
                continue
            self.served += 1
            job = Job(self, request, request["uid"])
            self.jobs[job.number] = job
            self.send(b"S", job.number, b"")
            if self.begin(job):
                return job.request
        return None

    def begin(self, job: Job) -> bool:
        """Start the first stage of a job; True in a child that is the program."""
        try:
            job.lay_files()
        except OSError:
            job.status = 1 << 8
            self.end(job)
            return False
        if job.request["compile"]:
            job.stage = b"compile"
            job.start(job.request["compile"])
            self.listen(job)
            return False
        return self.begin_run(job)

    def begin_run(self, job: Job) -> bool:
        """Start the program itself; True in a child that is the program."""
        job.stage = b"run"
        job.stdin = memoryview(job.request["stdin"])
        job.request["work"] = job.home
        if job.start(None if job.request["warm"] else job.request["argv"]):
            return True
        self.listen(job)
        return False

    def listen(self, job: Job) -> None:
        """Listen to a job's pipes."""
        for fd in job.pipes:
            self.owners[fd] = job
            self.poll.register(fd, select.EPOLLIN)
        self.owners[job.stdin_fd] = job
        self.poll.register(job.stdin_fd, select.EPOLLOUT)
        if not job.stdin:
            job.close_stdin()

    def reap(self) -> "dict[str, Any] | None":
        """Collect every zombie and end the stages they were the main process of."""
        while True:
            try:
                pid, status, used = posix.wait4(-1, posix.WNOHANG)
            except ChildProcessError:
                return None
            if pid == 0:
                return None
            job = next((job for job in self.jobs.values() if job.main == pid), None)
            if job is None:
                continue
            job.cpu_s += used.ru_utime + used.ru_stime
            job.peak_bytes = max(job.peak_bytes, used.ru_maxrss * 1024)
            job.status = status
            job.finish_stage()
            if job.stage == b"compile" and status == 0 and job.reason == "exit":
                if self.begin_run(job):
                    return job.request
                continue
            self.end(job)

    def end(self, job: Job) -> None:
        """Report a job and forget it."""
        del self.jobs[job.number]
        job.send_end()


def boot_server() -> "dict[str, Any] | None":
    """Prepare, say so, and serve."""
    set_dumpable(0)
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
    control = fcntl.fcntl(0, fcntl.F_DUPFD_CLOEXEC, 900)
    frames = fcntl.fcntl(1, fcntl.F_DUPFD_CLOEXEC, 900)
    null = posix.open("/dev/null", posix.O_RDWR | posix.O_CLOEXEC)
    posix.dup2(null, 0)
    posix.dup2(null, 1)
    warm_up()
    wake_read, wake_write = posix.pipe2(posix.O_CLOEXEC | posix.O_NONBLOCK)
    _signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    _signal.signal(_signal.SIGCHLD, lambda *_: None)
    posix.mkdir(SLOTS, 0o711)
    server = Server(control, frames, wake_read)
    server.send(b"R", 0, b"")
    return server.serve()


if __name__ == "__main__":
    _found = boot_server()
    if _found is None:
        posix._exit(0)  # noqa: SLF001 - os._exit under its built-in name
    _request = _found

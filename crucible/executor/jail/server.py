"""Process 1 of a shared sandbox: many trusted programs of one tenant, side by side.

Here process 1 is root inside the container, with nothing but the right to change user, because
each program gets a user id of its own that no other has at the same time. Frames carry the number
of the run in front of their payload.
"""

import _signal  # type: ignore[import-not-found]  # typeshed has no stub for the built-in module
import fcntl
import marshal
import posix
import select
import time

from crucible.executor.jail.become import warm_up
from crucible.executor.jail.job import LOOK_S, SLOTS, Job
from crucible.executor.jail.kernel import drain, own_code, read_counter, set_dumpable, write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


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
    server.send(b"R", 0, own_code())
    return server.serve()


if __name__ == "__main__":
    _found = boot_server()
    if _found is None:
        posix._exit(0)  # noqa: SLF001 - os._exit under its built-in name
    _request = _found

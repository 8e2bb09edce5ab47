"""Process 1 of a shared sandbox: many trusted programs of one tenant, side by side.

Here process 1 is root inside the container, with nothing but the right to change user, because
each program gets a user id of its own that no other has at the same time. Frames carry the number
of the run in front of their payload.
"""

import marshal
import posix
import select
import time

from crucible.executor.jail.job import LOOK_S, SLOTS, Job
from crucible.executor.jail.kernel import drain, own_code, read_counter, write_all
from crucible.executor.jail.startup import take_over
from crucible.executor.jail.users import PublicFolder, usage_by_user

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: Bytes of frames that may wait for the next one before they are written.
OUTBOX_BYTES = 65536


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
        self.outbox = bytearray()
        self.oom_kills = 0
        self.public = [PublicFolder("/tmp"), PublicFolder("/dev/shm")]  # noqa: S108 - the sandbox's
        posix.set_blocking(control, False)
        for fd in (control, wakeup):
            self.poll.register(fd, select.EPOLLIN)

    def send(self, kind: bytes, number: int, payload: bytes) -> None:
        """Send one frame to the host, with those of the same turn."""
        self.outbox += kind + (len(payload) + 4).to_bytes(4, "big") + number.to_bytes(4, "big")
        self.outbox += payload
        if len(self.outbox) > OUTBOX_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write the frames that wait; each write costs the engine as much as it costs here."""
        if self.outbox:
            write_all(self.frames, self.outbox)
            self.outbox = bytearray()

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
            self.flush()
            ended = False
            for fd, _ in self.poll.poll(LOOK_S if self.jobs else -1):
                if fd == self.wakeup:
                    drain(fd)
                    ended = True
                elif fd == self.control:
                    if not self.read_requests():
                        return None
                elif (job := self.owners.get(fd)) is not None:
                    if fd == job.stdin_fd:
                        job.write_stdin()
                    else:
                        job.read_output(fd)
            request = (self.reap() if ended else None) or self.begin_waiting()
            if request:
                return request
            self.look()

    def look(self) -> None:
        """Look at those programs whose time for it has come, all at once."""
        now = time.monotonic()
        due = [job for job in self.jobs.values() if now >= job.next_look]
        if due:
            usage = usage_by_user({job.uid for job in due})
            for job in due:
                job.look(now, usage[job.uid])

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
            elif self.begin(request):
                return dict(request)
        return None

    def begin(self, request: "dict[str, Any]") -> bool:
        """Start the first stage of a job; True in a child that is the program."""
        job = Job(self, request)
        self.jobs[job.number] = job
        self.send(b"S", job.number, b"")
        try:
            job.lay_files()
        except OSError:
            job.status = 1 << 8
            self.end(job)
            return False
        # The host has to know before anything runs: a program that started is not run again.
        self.flush()
        return self.start(job, b"compile" if request["compile"] else b"run")

    def start(self, job: Job, stage: bytes) -> bool:
        """Start a stage and listen to its pipes; True in a child that is the program."""
        if job.start(stage):
            return True
        for fd in job.pipes:
            self.owners[fd] = job
            self.poll.register(fd, select.EPOLLIN)
        if job.stdin_fd >= 0:
            self.owners[job.stdin_fd] = job
            self.poll.register(job.stdin_fd, select.EPOLLOUT)
        return False

    def reap(self) -> "dict[str, Any] | None":
        """Collect every zombie and end the stages they were the main process of."""
        while True:
            try:
                ended = posix.waitid(posix.P_ALL, 0, posix.WEXITED | posix.WNOHANG | posix.WNOWAIT)
            except ChildProcessError:
                return None
            if ended is None:
                return None
            pid = ended.si_pid
            job = next((job for job in self.jobs.values() if job.main == pid), None)
            if job is None:
                self.count_before_reaping(ended.si_uid)
                posix.waitpid(pid, 0)
                continue
            _, status, used = posix.wait4(pid, 0)
            job.cpu_s += used.ru_utime + used.ru_stime
            job.peak_bytes = max(job.peak_bytes, used.ru_maxrss * 1024)
            job.status = status
            job.finish_stage()
            if job.stage == b"compile" and status == 0 and job.reason == "exit":
                if self.start(job, b"run"):
                    return job.request
                continue
            self.end(job)

    def count_before_reaping(self, uid: int) -> None:
        """See how wide a program is before one of its orphans is gone from the count.

        In a fork bomb all processes end within a moment of the first refusal, between two looks.
        """
        now = time.monotonic()
        job = next((job for job in self.jobs.values() if job.uid == uid), None)
        if job is not None and now >= job.next_count:
            job.count(now, usage_by_user({uid})[uid])

    def end(self, job: Job) -> None:
        """Report a job and forget it."""
        del self.jobs[job.number]
        job.end()


def boot_server() -> "dict[str, Any] | None":
    """Prepare, say so, and serve; in a child that is a program, its request."""
    control, frames, wakeup = take_over()
    posix.mkdir(SLOTS, 0o711)
    server = Server(control, frames, wakeup)
    server.send(b"R", 0, own_code())
    return server.serve()


if __name__ == "__main__":
    _request = boot_server()
    if _request is None:
        posix._exit(0)  # noqa: SLF001 - os._exit under its built-in name

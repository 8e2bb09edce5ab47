"""One program of a shared sandbox, from its request to its end."""

import _signal  # type: ignore[import-not-found]  # typeshed has no stub for the built-in module
import posix
import resource
import time

from crucible.executor.jail.run import Run
from crucible.executor.jail.users import disk_usage, has_processes, remove_tree, usage_by_user

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from crucible.executor.jail.server import Server
    from crucible.executor.jail.users import Usage

SLOTS = "/tmp/slots"  # noqa: S108 - inside the sandbox, where nobody else is
#: Seconds between looks at memory and CPU time of a program.
LOOK_S = 0.02
#: Seconds in which the processes of a program whose orphans end are counted at most once.
COUNT_S = 0.002
#: A look at the disk takes longer: one in so many.
DISK_LOOKS = 16


class Job(Run):
    """One program beside others, with a user id of its own to tell what is its."""

    def __init__(self, server: "Server", request: "dict[str, Any]") -> None:
        self.number: int = request["number"]
        super().__init__(request, f"{SLOTS}/{self.number}", request["uid"])
        request["work"] = self.home
        self.server = server
        self.started = time.monotonic()
        self.deadline = self.started + request["wall_s"]
        self.next_look = self.started + LOOK_S
        self.next_count = self.started
        self.cpu_s = 0.0
        self.peak_bytes = 0
        self.looks = 0

    def emit(self, kind: bytes, payload: bytes) -> None:
        """Send one frame about this run to the host."""
        self.server.send(kind, self.number, payload)

    def forget(self, fd: int) -> None:
        """Stop listening to a descriptor."""
        self.server.forget(fd)

    def lay_files(self) -> None:
        """Make the working folder, writable for the program's group, and write its files."""
        # The group a new file gets is the effective one: no right to change owners is needed.
        posix.setresgid(-1, self.uid, -1)
        mask = posix.umask(0)
        try:
            posix.mkdir(self.home, 0o770)
            self.write_files(0o770, 0o664)
        finally:
            posix.umask(mask)
            posix.setresgid(-1, 0, -1)

    def limit(self) -> None:
        """Limits of the kernel's that go by process or by user."""
        request = self.request
        resource.setrlimit(resource.RLIMIT_NPROC, (request["pids"], request["pids"]))
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
        resource.setrlimit(resource.RLIMIT_FSIZE, (request["disk_bytes"], request["disk_bytes"]))

    def stop(self, reason: str) -> None:
        """Kill the program for ``reason``; the first reason stays."""
        if self.reason == "exit":
            self.reason = reason
            self.kill_all()

    def kill_all(self) -> None:
        """Kill every process of the program's user: only that user, or root, could."""
        self.as_user(lambda: posix.kill(-1, _signal.SIGKILL))

    def as_user(self, act: "Callable[[], object]") -> None:
        """Do what only the program's own user may, in a child that is that user."""
        pid = posix.fork()
        if pid == 0:
            try:
                posix.setresgid(self.uid, self.uid, self.uid)
                posix.setresuid(self.uid, self.uid, self.uid)
                act()
            except OSError:
                pass
            posix._exit(0)  # noqa: SLF001 - os._exit under its built-in name
        posix.waitpid(pid, 0)

    def count(self, now: float, usage: "Usage") -> None:
        """Note how many processes and threads there are at once."""
        self.next_count = now + COUNT_S
        self.processes = max(self.processes, usage.processes)

    def look(self, now: float, usage: "Usage") -> None:
        """Check time, memory and now and then the disk."""
        self.next_look = now + LOOK_S
        if now >= self.deadline:
            self.stop("wall")
            return
        self.count(now, usage)
        self.peak_bytes = max(self.peak_bytes, usage.resident_bytes)
        self.looks += 1
        if usage.resident_bytes > self.request["memory_bytes"]:
            self.stop("memory")
        elif self.cpu_s + usage.cpu_s > self.request["cpu_s"]:
            self.stop("cpu")
        elif self.looks % DISK_LOOKS == 0:
            self.check_disk(disk_usage(self.home))
            if self.disk_full:
                self.stop("disk")

    def check_disk(self, used_bytes: int) -> None:
        """Note when the files of the program, as far as they can be seen, are too many."""
        if used_bytes + 4096 > self.request["disk_bytes"]:
            self.disk_full = True

    def finish_stage(self) -> None:
        """Kill what the program left, read its pipes empty, close them."""
        self.close_stdin()
        if has_processes(self.uid):
            usage = usage_by_user({self.uid})[self.uid]
            self.processes = max(self.processes, usage.processes + 1)
            if usage.alive:
                self.kill_all()
        self.read_rest()

    def clean(self) -> None:
        """Remove the working folder and what the program left where everybody may write."""
        used_bytes, gone = remove_tree(self.home)
        self.check_disk(used_bytes)
        if not gone:
            self.remove_as_user(self.home)
        for folder in self.server.public:
            if folder.may_hold_more():
                for path in folder.entries_of(self.uid):
                    self.remove_public(path)

    def remove_public(self, path: str) -> None:
        """Remove what the program left where every program may write."""
        try:
            posix.unlink(path)
        except OSError:
            self.remove_as_user(path)

    def remove_as_user(self, path: str) -> None:
        """Remove what only the program's own user may reach, then what only process 1 may."""
        self.as_user(lambda: remove_tree(path))
        remove_tree(path)

    def end(self) -> None:
        """Hand back files, clean up, say how it ended."""
        self.send_files()
        self.clean()
        oom_kills = 1 if self.reason == "memory" else 0
        killed = posix.WIFSIGNALED(self.status) and posix.WTERMSIG(self.status) == _signal.SIGKILL
        if killed and self.reason == "exit":
            oom_kills = self.server.new_oom_kills()
        # The kernel does not tell of a refused fork; a failed program as wide as it may be does.
        wide = self.status != 0 and self.processes >= self.request["pids"] - 1
        self.send_end(
            wall_s=time.monotonic() - self.started,
            cpu_s=self.cpu_s,
            peak_bytes=self.peak_bytes,
            oom_kills=oom_kills,
            pids_hits=int(wide),
        )

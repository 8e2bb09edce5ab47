"""A program of a lane, as the supervisor has it: its namespaces, its pipes, and its end."""

import _signal  # type: ignore[import-not-found]  # typeshed has no stub for the built-in module
import _socket
import marshal
import posix
import select
import time

from crucible.executor.jail.become import is_usual
from crucible.executor.jail.kernel import (
    highest_memory,
    memory_in_use,
    oom_kills,
    pids_in_use,
    write_all,
)
from crucible.executor.jail.messages import receive_message, send_message
from crucible.executor.jail.runner import FIRST_BYTES, NO_ROOM
from crucible.executor.jail.single import LINGER_S, Single

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: Frames are held back so many milliseconds, or up to so many bytes: those of a small program are
#: one message then, and each message costs the engine as much as it costs here.
HOLD_MS, HOLD_BYTES = 2.0, 65536
#: What of a request goes on to the process that becomes the program.
THE_PROGRAMS = ("argv", "artifact_bytes", "env", "executable", "files", "memory_bytes", "warm")


class SpawnerLostError(Exception):
    """The spawner is no more, and the lane of no use."""


class Namespaces:
    """The namespaces of one program, as the supervisor has them.

    Attributes:
        spawner: what is said to the spawner, and heard of it.
        channel: to the process that waits in them for a request.
        number: of that process.
        disks: descriptors of the program's file systems; good for nothing but to ask how full.
        pipes: this side's ends of the program's standard input, output and error.
    """

    def __init__(self, spawner: "_socket.socket") -> None:
        self.spawner = spawner
        message, descriptors = self.hear()
        while message == b"G":  # of those before
            message, descriptors = self.hear()
        own = self.attach(message, descriptors)
        self.disks, self.pipes = own[:2], own[2:]

    def hear(self) -> "tuple[bytes, list[int]]":
        """What the spawner says next."""
        message, descriptors = receive_message(self.spawner, 6)
        if not message:
            raise SpawnerLostError
        return message, descriptors

    def attach(self, message: bytes, descriptors: "list[int]") -> "list[int]":
        """Take over the channel of a process that was started; the other descriptors with it."""
        self.number = message[1]
        # All given, so that the kernel is not asked.
        kind = _socket.AF_UNIX, _socket.SOCK_STREAM, 0
        self.channel = _socket.socket(*kind, descriptors[0])
        if not self.channel.recv(1):
            raise SpawnerLostError
        return descriptors[1:]

    def ask(self, request: "dict[str, Any]", descriptors: "tuple[int, ...]" = ()) -> None:
        """Send the waiting process its request, with descriptors.

        One that was killed meanwhile hears nothing; how it ended is what the spawner says next.
        """
        body = marshal.dumps(request, 2)
        message = len(body).to_bytes(8, "big") + body[:FIRST_BYTES]
        try:
            send_message(self.channel, message, descriptors)
            if len(body) > FIRST_BYTES:
                self.channel.sendall(memoryview(body)[FIRST_BYTES:])
        except OSError:
            return

    def had_no_room(self) -> bool:
        """Whether a process that has ended said that its files do not fit.

        A program cannot say so: its end of the channel is closed before it starts.
        """
        try:
            return self.channel.recv(1, _socket.MSG_DONTWAIT) == NO_ROOM
        except OSError:
            return False

    def end(self) -> None:
        """Have everything in them killed."""
        self.spawner.send(b"E")

    def close(self) -> None:
        """Forget them."""
        self.channel.close()
        for fd in self.disks:
            posix.close(fd)


class Ward(Single):
    """A program of a lane.

    Attributes:
        left_bytes: memory of the lane that is not the program's: what programs before left, which
            can only be cache, and what the lane has on top of the limit.
    """

    #: The supervisor, the spawner, and process 1 of the program's namespaces.
    overhead = 3

    def __init__(
        self,
        request: "dict[str, Any]",
        control: int,
        frames: int,
        namespaces: Namespaces,
        idle_bytes: int,
    ) -> None:
        self.namespaces = namespaces
        self.left_bytes = max(0, memory_in_use() - idle_bytes)
        self.asked_to_end = self.gone = False
        self.refused = False
        self.outbox = b"S" + bytes(4)
        #: Processes under way that kill what is left, or hand back files.
        self.helpers = 0
        wakeup = namespaces.spawner.fileno()
        super().__init__(request, control, frames, wakeup, highest_memory())

    def emit(self, kind: bytes, payload: bytes) -> None:
        """Send one frame to the host, with others that come at about the same time."""
        self.outbox += kind + len(payload).to_bytes(4, "big") + payload
        # Somebody waits for each piece of a program that talks.
        if kind == b"X" or self.request["talks"] or len(self.outbox) > HOLD_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write the frames that are held back."""
        write_all(self.frames, self.outbox)
        self.outbox = b""

    def wait(self, most_ms: float) -> "list[tuple[int, int]]":
        """Wait for something to happen, at most so many milliseconds."""
        if self.outbox:
            happened = self.poll.poll(min(HOLD_MS, most_ms))
            if happened:
                return happened
            self.flush()
        return super().wait(most_ms)

    def write_files(self, folder_mode: int, file_mode: int) -> None:
        """Nothing: whatever becomes the program writes them, as its user."""

    def start(self) -> bool:
        """Have the waiting process become the program."""
        self.main = self.namespaces.number
        self.keep_pipes(*self.namespaces.pipes)
        request = {name: self.request[name] for name in THE_PROGRAMS}
        if request["warm"] and is_usual(request["env"]):
            request["env"] = None
        self.namespaces.ask(request)
        # It has written them by the time it ends, and this process has no more use for them.
        self.request["files"] = []
        return False

    def hear(self) -> None:
        """Take note of what the spawner says: what has ended or begun."""
        message, descriptors = self.namespaces.hear()
        kind, number = message[:1], message[1] if message[1:] else 0
        if kind == b"S" and number == self.main:
            self.status, self.ended = int.from_bytes(message[2:], "big"), True
        elif kind == b"S":
            self.helpers -= 1
        elif kind == b"G":
            self.gone = True
        elif kind == b"!":
            self.refused = True
        elif kind == b"N":
            self.namespaces.attach(message, descriptors)

    def one_more(self) -> bool:
        """Have one more process that waits for a request; whether there is one."""
        self.refused = False
        before = self.namespaces.number
        self.namespaces.channel.close()
        self.namespaces.spawner.send(b"M")
        while self.namespaces.number == before and not self.refused:
            self.hear()
        return not self.refused

    def reap(self) -> None:
        """Nothing: the processes are not this one's."""

    def stop(self, reason: str) -> None:
        """Kill the program for ``reason``; the first reason stays."""
        if self.reason == "exit":
            self.reason = reason
            if not (self.leaves_files() and self.collect(send=False)):
                self.end()

    def end(self) -> None:
        """Have the namespaces end, once."""
        if not self.asked_to_end:
            self.asked_to_end = True
            self.namespaces.end()

    def collect(self, *, send: bool) -> bool:
        """Have all processes killed but not the namespaces, and files handed back; if possible."""
        self.flush()
        if self.asked_to_end or not self.one_more():
            return False
        self.helpers += 1
        names = ("output_files", "files_most", "file_bytes", "artifact_bytes")
        request = {"collect": True, "send": send, **{name: self.request[name] for name in names}}
        self.namespaces.ask(request, (self.frames,))
        return True

    def finish(self) -> None:
        """Let children end their last words, kill what is left, and read the pipes empty."""
        self.close_stdin()
        self.disk_full = self.status == 1 << 8 and self.namespaces.had_no_room()
        until = time.monotonic() + LINGER_S
        while (alive := self.others_alive()) and self.reason == "exit" and time.monotonic() < until:
            select.poll().poll(2)
            for fd in list(self.pipes):
                self.read_output(fd)
        self.disk_full = self.disk_full or any(map(is_full_disk, self.namespaces.disks))
        if alive:
            self.kill_rest()
        self.read_rest()

    def others_alive(self) -> bool:
        """Whether any process of the program is there, zombies included."""
        return pids_in_use() > self.overhead

    def kill_rest(self) -> None:
        """Kill what the program left running, and wait until it is gone."""
        if not (self.leaves_files() and self.collect(send=False)):
            self.end()
        # Once they are gone the next are made: what is counted then is not this program's.
        while not self.gone and (self.asked_to_end or self.helpers):
            self.hear()

    def send_files(self) -> None:
        """Have a process of the program's user hand back the files that were asked for."""
        if self.collect(send=True):
            while self.helpers:
                self.hear()
            return
        for name in self.request["output_files"]:
            self.omit(name, b"lost")

    def lose(self) -> None:
        """Report the end of a program whose namespaces went with the spawner."""
        self.status = _signal.SIGKILL
        self.close_stdin()
        self.read_rest()
        self.request["output_files"] = []
        self.conclude()

    def out_of_memory(self) -> bool:
        """Whether the kernel has killed any process of the lane for memory."""
        return oom_kills() > self.oom_base

    def peak_bytes(self) -> int:
        """Highest memory while this program ran, of what is its own."""
        return max(0, super().peak_bytes() - self.left_bytes)


def is_full_disk(fd: int) -> bool:
    """Whether the file system of a descriptor has neither a block or an inode left."""
    stat = posix.fstatvfs(fd)
    return stat.f_bavail == 0 or stat.f_favail == 0

"""The program of a session's sandbox: it starts the interpreter, and stands between it and us.

Requests come in on descriptor 0 and answers go out on descriptor 1, both as four bytes of length
and JSON. The interpreter, in which hostile code runs, has pipes of its own instead; this process is
not dumpable, so that its descriptors and memory are closed to it. A session whose interpreter
manages to harm this process all the same is lost, and no other is concerned: time is kept outside
as well.
"""

import base64
import os
import select
import signal
import socket
import stat
import time

from crucible.executor.sessions.interpreter import (
    Interpreter,
    clean,
    give_message,
    take_exactly,
    take_message,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

CHUNK = 65536
#: A pipe holds as much as one of them, or a little more.
PIPE_CHUNKS = 3
PR_SET_DUMPABLE = 4


class Driver:
    """One interpreter, and the cell it runs.

    Attributes:
        control: where requests come from.
        answers: where answers go.
    """

    def __init__(self) -> None:
        self.control, self.answers = os.dup(0), os.dup(1)
        null = os.open("/dev/null", os.O_RDWR)
        os.dup2(null, 0)
        os.dup2(null, 1)
        os.close(null)
        self.kept = {"stdout": bytearray(), "stderr": bytearray()}
        self.cut = False
        self.request: dict[str, Any] | None = None
        self.began = self.until = 0.0
        self.interrupted = False
        self.poll = select.poll()
        self.pid, self.channel, self.pipes = self.start()
        protect(0)

    def start(self) -> "tuple[int, int, dict[int, str]]":
        """Fork the interpreter: its process, its channel, and its output."""
        ours, theirs = socket.socketpair()
        out, err = os.pipe(), os.pipe()
        pid = os.fork()
        if pid == 0:
            os.setpgid(0, 0)
            os.dup2(out[1], 1)
            os.dup2(err[1], 2)
            channel = 3
            os.dup2(theirs.fileno(), channel)
            os.closerange(4, 256)
            protect(1)
            be_interpreter(channel)
        os.close(out[1])
        os.close(err[1])
        theirs.close()
        for fd in (out[0], err[0]):
            os.set_blocking(fd, False)
        return pid, ours.detach(), {out[0]: "stdout", err[0]: "stderr"}

    def serve(self) -> None:
        """Answer requests until there are no more, or the interpreter has ended."""
        for fd in (self.control, self.channel, *self.pipes):
            self.poll.register(fd, select.POLLIN)
        give_message(self.answers, {"ready": True})
        while True:
            for fd, _ in self.poll.poll(self.left_ms()):
                if fd in self.pipes:
                    self.read_output(fd)
                elif fd == self.channel:
                    self.hear()
                elif not self.take_request():
                    return
            if self.request is not None and time.monotonic() >= self.until:
                self.overdue()

    def left_ms(self) -> float:
        """Milliseconds until something is due."""
        if self.request is None:
            return 60_000
        return max(0.0, self.until - time.monotonic()) * 1000 + 1

    def take_request(self) -> bool:
        """Hand the next cell to the interpreter; False where no more come."""
        request = take_message(self.control)
        if request is None:
            return False
        self.request, self.interrupted = request, False
        self.began = time.monotonic()
        self.until = self.began + request["timeout_s"]
        give_message(self.channel, {"code": request["code"]})
        return True

    def overdue(self) -> None:
        """The cell has taken too long: interrupt it, and the second time kill it."""
        assert self.request is not None
        if self.interrupted:
            os.killpg(self.pid, signal.SIGKILL)
            self.until = float("inf")
            self.answer({"died": "cell_timeout"})
            raise SystemExit
        self.interrupted = True
        self.until = time.monotonic() + self.request["interrupt_s"]
        os.killpg(self.pid, signal.SIGINT)

    def read_output(self, fd: int) -> bool:
        """Keep what a pipe holds, up to the cap; False once it is empty or was closed."""
        try:
            data = os.read(fd, CHUNK)
        except BlockingIOError:
            return False
        if not data:
            self.poll.unregister(fd)
            del self.pipes[fd]
            return False
        kept = self.kept[self.pipes[fd]]
        room = (self.request["output_bytes"] if self.request else CHUNK) - len(kept)
        kept += data[: max(0, room)]
        self.cut = self.cut or len(data) > room
        return True

    def hear(self) -> None:
        """Take the interpreter's result; without one it has ended."""
        head = take_exactly(self.channel, 4)
        size = int.from_bytes(head, "big")
        most = self.request["display_bytes"] + self.request["output_bytes"] if self.request else 0
        if len(head) < 4:
            self.mourn()
        if size > most:
            # Read over, so that what is next begins where a message does.
            while size > 0 and (piece := os.read(self.channel, min(size, CHUNK))):
                size -= len(piece)
            self.cut = True
            said: dict[str, Any] = {"error": TOO_MUCH, "display": []}
        else:
            said = parsed(take_exactly(self.channel, size))
        if self.request is None:
            return
        self.answer(
            {
                "error": said.get("error"),
                "display": said.get("display"),
                "interrupted": self.interrupted,
            }
        )

    def mourn(self) -> None:
        """The interpreter has ended: say so, and end in the same way."""
        status = os.waitpid(self.pid, 0)[1]
        killed = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        text = f"signal {killed}" if killed else f"exit code {os.WEXITSTATUS(status)}"
        self.answer({"died": "interpreter_died", "detail": text})
        if killed:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.kill(os.getpid(), killed)
        raise SystemExit(os.WEXITSTATUS(status) if not killed else 1)

    def answer(self, message: "dict[str, Any]") -> None:
        """Say what came of the cell."""
        for fd in list(self.pipes):
            # What was written before the result; what others go on writing would have no end.
            for _ in range(PIPE_CHUNKS):
                if not self.read_output(fd):
                    break
        for stream, kept in self.kept.items():
            message[stream] = clean(kept.decode("utf-8", "replace"))
            kept.clear()
        message["cut"], self.cut = self.cut, False
        request, self.request = self.request, None
        if request is not None:
            message["id"] = request["id"]
            message["ms"] = int((time.monotonic() - self.began) * 1000)
            message["files"], message["omitted"] = {}, {}
            left = request["file_bytes"]
            for name in request["output_files"]:
                left -= self.take_file(name, left, message)
        give_message(self.answers, message)

    def take_file(self, name: str, most: int, message: "dict[str, Any]") -> int:
        """Add a file to an answer, or why it is not there; how many bytes it has."""
        try:
            fd = open_plain(name)
        except OSError as error:
            missing = isinstance(error, FileNotFoundError)
            message["omitted"][name] = "missing" if missing else "not_regular"
            return 0
        try:
            info = os.fstat(fd)
            if not stat.S_ISREG(info.st_mode):
                message["omitted"][name] = "not_regular"
            elif info.st_size > most:
                message["omitted"][name] = "too_large"
            else:
                content = take_exactly(fd, info.st_size)
                message["files"][name] = base64.b64encode(content).decode()
                return len(content)
        finally:
            os.close(fd)
        return 0


TOO_MUCH = {
    "name": "OutputLimit",
    "value": "the cell displayed more than may be kept",
    "traceback": [],
}


def parsed(body: bytes) -> "dict[str, Any]":
    """A message of the interpreter's; empty where hostile code has written something else."""
    import json

    try:
        message = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return message if isinstance(message, dict) else {}


def open_plain(name: str) -> int:
    """Open a file below the working directory, following no link on the way.

    Raises:
        OSError: there is none, or something else has its name.
    """
    folder = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
    try:
        *above, last = name.split("/")
        if ".." in above:
            raise PermissionError(name)
        for part in above:
            inner = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
            os.close(folder)
            folder = inner
        # Not blocking: a pipe without a writer would be waited for.
        return os.open(last, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    finally:
        os.close(folder)


def protect(dumpable: int) -> None:
    """Close this process to others of the same user, or open it again."""
    try:
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, dumpable, 0, 0, 0)
    except (ImportError, OSError, AttributeError):
        return  # an image without it: the driver is then as open as the interpreter


def be_interpreter(channel: int) -> None:
    """In the child: run cells until there are no more."""
    import sys

    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # as Python opens them
    status = 1
    try:
        Interpreter(channel).serve()
        status = 0
    finally:
        os._exit(status)


if __name__ == "__main__":
    # Nothing of ours lies in the working directory.
    os.unlink("main.py")  # noqa: PTH108 - pathlib would be one more import
    Driver().serve()

"""A process in a program's namespaces, which becomes the program or hands its files back."""

import _signal  # type: ignore[import-not-found]  # typeshed has no stub for the built-in module
import gc
import marshal
import posix
import select

from crucible.executor.jail.become import execute
from crucible.executor.jail.kernel import kill_others, others_alive, read_into, write_all
from crucible.executor.jail.messages import receive_message
from crucible.executor.jail.run import Run

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from typing import Any

#: How a runner exits that got no request.
HUNG_UP = 3
#: What a runner that could not lay its files says before it exits with 1. An exit status of its own
#: would not do: a program may exit with any.
NO_ROOM = b"F"
#: Bytes of a request that are read together with what comes before it.
FIRST_BYTES = 8192


class Runner(Run):
    """A process in a program's namespaces, until it becomes the program."""

    #: The ends of its channel: the supervisor's, and its own.
    pair: "tuple[_socket.socket, _socket.socket]"
    #: It becomes the program; those that come later hand back files.
    first = True

    def serve(self) -> "dict[str, Any] | None":
        """Do what is asked; returns what is to be run by this very interpreter."""
        descriptors: list[int] = []
        channel = self.pair[1].fileno()
        if self.first:
            message = posix.read(channel, FIRST_BYTES + 8)
        else:
            message, descriptors = receive_message(self.pair[1], FIRST_BYTES + 8)
        size = int.from_bytes(message[:8], "big")
        body: bytes | bytearray = message[8:]
        if len(body) < size:
            body += read_into(channel, size - len(body))
        if not body or len(body) < size:
            posix._exit(HUNG_UP)  # noqa: SLF001 - os._exit under its built-in name
        self.request = marshal.loads(body)  # noqa: S302 - from the supervisor
        if not self.first:
            self.collect(*descriptors)
        del message, body
        try:
            self.write_files(0o777, 0o644)
        except OSError:
            posix.write(channel, NO_ROOM)
            posix._exit(1)  # noqa: SLF001 - os._exit under its built-in name
        self.limit()
        posix.closerange(3, 4096)
        gc.enable()
        if not self.request["warm"]:
            execute(self.request["argv"], self.request["env"])
        # Not before the fork: init has the handlers of the spawner, and that one's memory.
        _signal.signal(_signal.SIGINT, _signal.default_int_handler)
        return self.request

    def collect(self, frames: int) -> None:
        """Kill every other process of the program, and hand back what it was to leave."""
        kill_others()
        while others_alive():
            select.poll().poll(1)
        self.frames = frames
        if self.request["send"]:
            self.send_files()
        posix._exit(0)  # noqa: SLF001 - os._exit under its built-in name

    def emit(self, kind: bytes, payload: bytes) -> None:
        """Send one frame to the host."""
        write_all(self.frames, kind + len(payload).to_bytes(4, "big") + payload)

"""What process 1 does first in any sandbox: close itself off, and listen."""

import _signal  # type: ignore[import-not-found]  # typeshed has no stub for the built-in module
import fcntl
import posix

from crucible.executor.jail.become import warm_up
from crucible.executor.jail.kernel import set_dumpable

#: Descriptors of process 1 that stay lie from here on, below the least limit of them.
FLOOR = 200


def take_over() -> tuple[int, int]:
    """Take the container's own descriptors out of every program's reach, and warm up.

    Returns:
        where requests come from, and where frames go.
    """
    set_dumpable(0)
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
    control = fcntl.fcntl(0, fcntl.F_DUPFD_CLOEXEC, FLOOR)
    frames = fcntl.fcntl(1, fcntl.F_DUPFD_CLOEXEC, FLOOR)
    null = posix.open("/dev/null", posix.O_RDWR | posix.O_CLOEXEC)
    posix.dup2(null, 0)
    posix.dup2(null, 1)
    posix.close(null)
    warm_up()
    return control, frames


def listen_for_ends() -> int:
    """What becomes readable when a child of this process ends."""
    wake_read, wake_write = posix.pipe2(posix.O_CLOEXEC | posix.O_NONBLOCK)
    _signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    _signal.signal(_signal.SIGCHLD, lambda *_: None)
    return wake_read

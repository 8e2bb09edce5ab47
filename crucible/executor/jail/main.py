"""Where process 1 starts."""

import _signal  # type: ignore[import-not-found]  # typeshed has no stub for the built-in module
import fcntl
import posix

from crucible.executor.jail.become import warm_up
from crucible.executor.jail.kernel import WORK, own_code, set_dumpable
from crucible.executor.jail.run import Supervisor


def boot() -> tuple[Supervisor, bool]:
    """Prepare, say so, wait for the program, run it; true in the child that is the program."""
    set_dumpable(0)
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
    control = fcntl.fcntl(0, fcntl.F_DUPFD_CLOEXEC, 200)
    frames = fcntl.fcntl(1, fcntl.F_DUPFD_CLOEXEC, 200)
    null = posix.open("/dev/null", posix.O_RDWR | posix.O_CLOEXEC)
    posix.dup2(null, 0)
    posix.dup2(null, 1)
    warm_up()
    wake_read, wake_write = posix.pipe2(posix.O_CLOEXEC | posix.O_NONBLOCK)
    _signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    _signal.signal(_signal.SIGCHLD, lambda *_: None)
    posix.mkdir(WORK, 0o755)
    posix.chdir(WORK)
    supervisor = Supervisor(control, frames)
    supervisor.send(b"R", own_code())
    return supervisor, supervisor.receive() and supervisor.run(wake_read)


if __name__ == "__main__":
    _supervisor, _is_program = boot()
    if not _is_program:
        posix._exit(0)  # noqa: SLF001 - os._exit under its built-in name
    _request = _supervisor.request
    del _supervisor, _is_program

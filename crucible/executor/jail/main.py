"""Where process 1 starts."""

import _signal  # type: ignore[import-not-found]  # typeshed has no stub for the built-in module
import atexit
import fcntl
import posix
import sys

from crucible.executor.jail.become import become_python, report
from crucible.executor.jail.kernel import WORK, set_dumpable
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
    wake_read, wake_write = posix.pipe2(posix.O_CLOEXEC | posix.O_NONBLOCK)
    _signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    _signal.signal(_signal.SIGCHLD, lambda *_: None)
    posix.mkdir(WORK, 0o755)
    posix.chdir(WORK)
    supervisor = Supervisor(control, frames)
    supervisor.send(b"R", b"")
    return supervisor, supervisor.receive() and supervisor.run(wake_read)


def _source_of(supervisor: Supervisor) -> bytes:
    """The program's source, which the request lists last."""
    content: bytes = supervisor.request["files"][-1][1]
    return content


if __name__ == "__main__":
    _supervisor, _is_program = boot()
    if not _is_program:
        posix._exit(0)  # noqa: SLF001 - os._exit under its built-in name
    _path, _namespace = become_python(_supervisor.request)
    try:
        _code = compile(_source_of(_supervisor), _path, "exec", dont_inherit=True)
    except BaseException as _error:  # noqa: BLE001 - whatever compiling raises is the program's
        _error.__traceback__ = None
        sys.excepthook(type(_error), _error, None)
        raise SystemExit(1) from None
    del _supervisor, _is_program
    try:
        exec(_code, _namespace)  # noqa: S102 - what the sandbox is for
    except SystemExit:
        raise
    except KeyboardInterrupt as _error:
        report(_error, 1)
        atexit._run_exitfuncs()  # noqa: SLF001 - SIGINT would skip them
        sys.stdout.flush()
        _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
        posix.kill(posix.getpid(), _signal.SIGINT)
    except BaseException as _error:  # noqa: BLE001 - the program's own, reported as uncaught
        report(_error, 1)
        raise SystemExit(1) from None

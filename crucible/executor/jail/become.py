"""The forked child on its way to being the program."""

import _signal  # type: ignore[import-not-found]  # typeshed has no stub for the built-in module
import posix
import sys

from crucible.executor.jail.kernel import WORK, set_dumpable, write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn


def enter_child(stdin: int, stdout: int, stderr: int, uid: int = 0) -> None:
    """Leave the supervisor behind: own session and descriptors, first for the OOM killer.

    With ``uid``, root's process 1 of a shared sandbox becomes that user for good.
    """
    posix.setsid()
    _signal.set_wakeup_fd(-1)
    _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)
    posix.dup2(stdin, 0)
    posix.dup2(stdout, 1)
    posix.dup2(stderr, 2)
    posix.closerange(3, 4096)
    if uid:
        posix.setgroups([])
        posix.setresgid(uid, uid, uid)
        posix.setresuid(uid, uid, uid)
    set_dumpable(1)
    try:
        fd = posix.open("/proc/self/oom_score_adj", posix.O_WRONLY)
        posix.write(fd, b"1000")
        posix.close(fd)
    except OSError:
        pass


def execute(argv: list[str], env: dict[str, str]) -> "NoReturn":
    """Become another program; exit code 127 as a shell has it when there is none."""
    _signal.signal(_signal.SIGPIPE, _signal.SIG_DFL)
    _signal.signal(_signal.SIGXFSZ, _signal.SIG_DFL)
    try:
        posix.execve(argv[0], argv, env)
    except OSError as error:
        write_all(2, f"{argv[0]}: {error.strerror}\n".encode())
    posix._exit(127)  # noqa: SLF001 - os._exit under its built-in name


def become_python(request: "dict[str, Any]") -> "tuple[str, dict[str, Any]]":
    """Make this forked interpreter what ``python3 main.py`` would be; its code and namespace."""
    _signal.signal(_signal.SIGINT, _signal.default_int_handler)
    name = request["argv"][1]
    work = request.get("work", WORK)
    path = work + "/" + name
    environ = sys.modules["os"].environ
    environ.clear()
    environ.update(request["env"])
    sys.argv[:] = [name, *request["argv"][2:]]
    sys.orig_argv[:] = request["argv"]
    sys.path[0] = work
    main = type(sys)("__main__")
    loader = sys.modules["_frozen_importlib_external"].SourceFileLoader("__main__", path)
    main.__dict__.update(
        __file__=path,
        __builtins__=sys.modules["builtins"],
        __cached__=None,
        __loader__=loader,
        __annotations__={},
    )
    sys.modules["__main__"] = main
    sys.setrecursionlimit(sys.getrecursionlimit() + 1)
    return path, main.__dict__


def report(error: BaseException, stripped: int) -> None:
    """Print an uncaught exception as the interpreter would, without the supervisor's frames."""
    trace = error.__traceback__
    for _ in range(stripped):
        trace = trace.tb_next if trace else None
    error.__traceback__ = trace
    sys.last_type, sys.last_value, sys.last_traceback = type(error), error, trace
    sys.excepthook(type(error), error, trace)

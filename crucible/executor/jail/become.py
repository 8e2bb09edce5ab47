"""The forked child on its way to being the program."""

import _signal  # type: ignore[import-not-found]  # typeshed has no stub for the built-in module
import atexit
import gc
import posix
import sys

from crucible.executor.jail.kernel import WORK, call_libc, look_up, set_dumpable, write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn


#: Not an exit status: the process ends itself by SIGINT, as an uncaught KeyboardInterrupt does.
BY_INTERRUPT = 256 + 2
#: The file of every program that a waiting interpreter becomes.
MAIN = "main.py"
COMMAND = ("/usr/bin/python3", MAIN)
#: What the environment is before the fork.
_environment: "dict[str, str]" = {}
#: The program's ``__main__``, made before the fork; the fork takes it out, so that it is freed with
#: the program.
_main: "list[Any]" = []
#: Names of the modules that are there before the fork, in the order of their import.
_modules: "dict[str, None]" = {}


def warm_up() -> None:
    """Once before the program: what every Python program touches first, touched.

    Its pages and lazily bound symbols are then shared with the child instead of being made in it,
    and no collection of the child's looks at, and so copies, what was there before.
    """
    preload(sys.argv[1:])
    exec(compile("print(6 * 7)", "warm", "exec"), {})  # noqa: S102 - our own constant
    sys.stdout.flush()
    # ``posix._exit`` would look for its function in all libraries, once in every fork.
    look_up("_exit"), look_up("exit")
    environ = sys.modules["os"].environ
    environ.pop("HOSTNAME", None)  # the engine's; no program is given it
    _environment.update(environ)
    sys.argv[:] = COMMAND[1:]
    sys.orig_argv[:] = COMMAND
    _hide_frames()
    _modules.update(dict.fromkeys(sys.modules))
    settle()


def _hide_frames() -> None:
    """Have the frames below the program's not count against its limit of recursion.

    They are the supervisor's own two modules, each with its call of exec.
    """
    frame: Any = sys._getframe()  # noqa: SLF001 - the documented way to one's own frame
    depth = 0
    while frame is not None:
        depth += frame.f_code.co_name == "<module>"
        frame = frame.f_back
    sys.setrecursionlimit(sys.getrecursionlimit() + 2 * depth)


def _make_main() -> None:
    """Make the module that the program will be, but for its name space's contents."""
    main = type(sys)("__main__")
    path = WORK + "/" + MAIN
    loader = sys.modules["_frozen_importlib_external"].SourceFileLoader("__main__", path)
    main.__dict__.update(
        __file__=path,
        __builtins__=sys.modules["builtins"],
        __cached__=None,
        __loader__=loader,
        __annotations__={},
    )
    sys.modules["__main__"] = main
    _main[:] = [main]


def settle() -> None:
    """Have no collection of a fork's look at, and so copy, what is here now.

    All but the program's module: functions of the program hold its name space, which holds them,
    and only a collection that looks at both finalizes what the program leaves there.
    """
    _main.clear()
    gc.collect()
    gc.freeze()
    _make_main()
    _collections[:] = collections()


def is_usual(env: "dict[str, str]") -> bool:
    """Whether a program's environment is that of the waiting interpreter."""
    return env == _environment


def preload(names: "list[str]") -> None:
    """Import what programs of this environment are likely to; one that fails is left to them."""
    for name in names:
        try:
            __import__(name)
        except Exception:  # noqa: BLE001, S112 - a module's import may raise anything
            continue
    if "numpy.random" in sys.modules:
        # Else every program forked from here would draw the same numbers.
        posix.register_at_fork(after_in_child=sys.modules["numpy.random"].seed)


def enter_child(stdin: int, stdout: int, stderr: int) -> None:
    """Leave the supervisor behind: own session and descriptors, first for the OOM killer."""
    posix.setsid()
    _signal.set_wakeup_fd(-1)
    _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)
    posix.dup2(stdin, 0)
    posix.dup2(stdout, 1)
    posix.dup2(stderr, 2)
    posix.closerange(3, 4096)
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


def set_environment(wanted: "dict[str, str]") -> None:
    """Change what differs in the environment, which is little: each change costs copied pages."""
    if _environment == wanted:
        return
    environ = sys.modules["os"].environ
    for name in _environment.keys() - wanted.keys():
        del environ[name]
    for name, value in wanted.items():
        if _environment.get(name) != value:
            environ[name] = value


def become_python(request: "dict[str, Any]") -> "tuple[str, dict[str, Any]]":
    """Make this forked interpreter what ``python3 main.py`` would be; its path and namespace.

    Each object that is touched here has its page copied, so what can be is there already.
    """
    if request["env"] is not None:
        set_environment(request["env"])
    if len(request["argv"]) > len(COMMAND):
        sys.argv[:] = request["argv"][1:]
        sys.orig_argv[:] = request["argv"]
    sys.path[0] = WORK
    namespace = _main.pop().__dict__
    return namespace["__file__"], namespace


def report(error: BaseException, depth: int) -> int:
    """Print an uncaught exception as the interpreter would; the exit status that goes with it.

    Args:
        error: what the program raised.
        depth: frames of the supervisor's in its traceback; 0 for an error of compiling, which
            has no frame of the program's at all.
    """
    trace = error.__traceback__
    error.__traceback__ = trace.tb_next if trace and depth else None
    sys.last_type, sys.last_value, sys.last_traceback = type(error), error, error.__traceback__
    sys.excepthook(type(error), error, error.__traceback__)
    return BY_INTERRUPT if isinstance(error, KeyboardInterrupt) else 1


def exit_code_of(error: SystemExit) -> int:
    """The exit status ``sys.exit`` asked for; anything but a number is printed, as 1."""
    if error.code is None:
        return 0
    if isinstance(error.code, int):
        return error.code & 0xFF if abs(error.code) < 1 << 63 else 0xFF
    if sys.stderr is not None:
        sys.stderr.write(f"{error.code}\n")
    return 1


def new_modules() -> "list[str]":
    """Names of the modules that the program has imported.

    Where there are none no other is looked at: each look at a name copies a page for its count of
    references.
    """
    if next(reversed(sys.modules)) == next(reversed(_modules)):
        return []
    return [name for name in sys.modules if name not in _modules]


def leave(status: int) -> None:
    """End the process as the interpreter would, without taking the interpreter apart.

    That would touch, and so copy, nearly every page shared with the supervisor: two thirds of the
    cost of a small program. What a program can notice is kept: threads are waited for, exit
    functions run, objects are finalized, both of Python's and C's buffers are flushed.
    """
    if threading := sys.modules.get("threading"):
        threading._shutdown()  # noqa: SLF001 - what the interpreter calls
    atexit._run_exitfuncs()  # noqa: SLF001 - what the interpreter calls
    status = flush(status)
    sys.last_type = sys.last_value = sys.last_traceback = None
    sys.modules.pop("__main__", None)
    imported = new_modules()
    for name in imported:
        module = sys.modules[name]
        if getattr(module, "__file__", None) and str(module.__file__).startswith(sys.path[0]):
            del sys.modules[name]
            del module
    collect()
    status = flush(status)
    if status == BY_INTERRUPT:
        _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
        posix.kill(posix.getpid(), _signal.SIGINT)
    if not imported and "ctypes" not in _modules:
        # No library has come, so none has anything to flush or to end.
        call_libc("_exit", status)
    call_libc("exit", status)


def collect() -> None:
    """Finalize what only cycles of the program's hold.

    A full collection also empties the interpreter's lists of free objects, most of which lie on
    pages shared with the supervisor. It is needed only where an earlier one has moved objects of
    the program's out of the younger generations.
    """
    gc.collect(1 if collections() == _collections else 2)


def collections() -> "list[int]":
    """How often the generations that move objects to the oldest were collected."""
    return [generation["collections"] for generation in gc.get_stats()[1:]]


#: What that was before the fork.
_collections: "list[int]" = []


def flush(status: int) -> int:
    """Flush what was printed; 120, as the interpreter has it, when standard output fails."""
    try:
        if sys.stdout is not None and not sys.stdout.closed:
            sys.stdout.flush()
    except (OSError, ValueError) as error:
        write_all(2, f"Exception ignored in: {sys.stdout!r}\n".encode())
        write_all(2, f"{type(error).__name__}: {error}\n".encode())
        sys.stdout = None  # nothing is to be flushed a second time
        return status or 120
    try:
        if sys.stderr is not None and not sys.stderr.closed:
            sys.stderr.flush()
    except (OSError, ValueError):
        return status
    return status

"""The last part of the script: in a forked child, what is left to do is to be the program.

Module level on purpose. The program's own first frame lies directly on this one, so that its
recursion limit and its tracebacks are what they would be without a supervisor.
"""

import _signal  # type: ignore[import-not-found]  # typeshed has no stub for the built-in module
import atexit
import posix
import sys

from crucible.executor.jail.become import become_python, report

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    _request: dict[str, Any] = {}

if __name__ == "__main__":
    _path, _namespace = become_python(_request)
    try:
        # The program's source is what the request lists last.
        _code = compile(_request["files"][-1][1], _path, "exec", dont_inherit=True)
    except BaseException as _error:  # noqa: BLE001 - whatever compiling raises is the program's
        _error.__traceback__ = None
        sys.excepthook(type(_error), _error, None)
        raise SystemExit(1) from None
    del _request
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

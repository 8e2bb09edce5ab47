"""The last part of the script: in a forked child, what is left to do is to be the program.

Module level on purpose. The program's own first frame lies directly on this one, so that its
recursion limit and its tracebacks are what they would be without a supervisor.
"""

from crucible.executor.jail.become import become_python, exit_code_of, leave, report

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    _request: dict[str, Any] = {}

if __name__ == "__main__":
    _status, _depth = 0, 0
    _path, _namespace = become_python(_request)
    try:
        # The program's source is what the request lists last.
        _code = compile(_request["files"][-1][1], _path, "exec", dont_inherit=True)
        del _request
        _depth = 1
        exec(_code, _namespace)  # noqa: S102 - what the sandbox is for
    except SystemExit as _error:
        _status = exit_code_of(_error)
    except BaseException as _error:  # noqa: BLE001 - the program's own, reported as uncaught
        _status = report(_error, _depth)
    del _namespace
    leave(_status)

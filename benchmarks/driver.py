"""Runs one subject file: reads commands as JSON lines from stdin, replies with JSON lines.

Standard library only, since it runs in every subject's own environment::

    python driver.py subjects/arq.py
    {"do": "setup", "job": {...}}   ->  {"ok": <what setup returned>}
    {"do": "run", "job": {...}}     ->  {"ok": <what run returned>}
    {"do": "teardown", "job": {}}   ->  {"ok": null}, and the process ends

``setup``, ``run`` and ``teardown`` may be plain functions or coroutine functions. What a subject
prints goes to stderr, so that it is not mistaken for a reply.
"""

from __future__ import annotations

import asyncio
import importlib.util
import inspect
import json
import os
import signal
import sys
import traceback
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import ModuleType


def load(path: str) -> ModuleType:
    """Import a subject file, with its folder on the path so that it can import its siblings."""
    sys.path.insert(0, os.path.dirname(os.path.abspath(path)))  # noqa: PTH100, PTH120
    spec = importlib.util.spec_from_file_location("subject", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules["subject"] = module
    spec.loader.exec_module(module)
    return module


async def execute(subject: ModuleType, command: dict[str, Any]) -> dict[str, Any]:
    """Execute one command; a failure becomes an ``error`` reply."""
    try:
        answer = getattr(subject, command["do"])(command["job"])
        if inspect.isawaitable(answer):
            answer = await answer
    except Exception:  # noqa: BLE001 - reported to the harness, which fails the measurement with it
        return {"error": traceback.format_exc()}
    return {"ok": answer}


async def serve(subject: ModuleType, answers: int) -> None:
    """Execute commands until teardown, or until the harness is gone."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=64 * 1024 * 1024)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        command = json.loads(line)
        answer = json.dumps(await execute(subject, command)).encode() + b"\n"
        while answer:
            answer = answer[os.write(answers, answer) :]
        if command["do"] == "teardown":
            return
    # The harness died. Its pipe closes before the kernel sends the parent-death signal, which may
    # arrive when the interpreter is already exiting and runs no handlers any more.
    end_together()


def end_together(*_: object) -> None:
    """Terminate the process group; called when the harness died (SIGTERM or a closed pipe)."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if os.getpgrp() != os.getpid():  # started by hand, in the group of a shell
        sys.exit(128 + signal.SIGTERM)
    os.killpg(0, signal.SIGTERM)


def main() -> None:
    """Entry point."""
    signal.signal(signal.SIGTERM, end_together)
    answers = os.dup(1)
    os.dup2(2, 1)
    subject = load(sys.argv[1])
    try:
        import uvloop
    except ImportError:
        asyncio.run(serve(subject, answers))
    else:
        uvloop.run(serve(subject, answers))


if __name__ == "__main__":
    main()

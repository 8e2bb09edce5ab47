"""Writes ``crucible/client/blocking.py`` from the methods of ``AsyncCrucible``.

``python scripts/blocking_client.py`` after a change of those; a unit test compares the two.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "crucible" / "client" / "asynchronous.py"
TARGET = ROOT / "crucible" / "client" / "blocking.py"

_HEAD = '''"""The client for programs without an event loop.

Made from ``AsyncCrucible`` by ``scripts/blocking_client.py``: change that one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self, Unpack

from crucible.client import sessions
from crucible.client.asynchronous import DEFAULT_URL, RETRY_FOR_S, WINDOW, AsyncCrucible
from crucible.client.portal import Portal

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from types import TracebackType

    from crucible.client.models import BatchItem, Completed, Event, Resync, Submitted
    from crucible.client.progress import OnProgress
    from crucible.client.requests import ProgramOptions, ProgramRequest
    from crucible.client.sessions import CellResult, SessionOptions, SessionShown
    from crucible.models import Evaluation


class Crucible:
    """A client of the HTTP API; a context manager, and safe to use from several threads.

    Each method is that of ``AsyncCrucible``, run in an event loop in a thread of its own.

    Args:
        url: where the API is.
        key: API key; None takes the environment's ``CRUCIBLE_API_KEY``.
        retry_for_s: seconds for which a request is sent again while the API is away or busy.

    Raises:
        ApiError: ``url`` is no address.
    """

    def __init__(
        self, url: str = DEFAULT_URL, key: str | None = None, *, retry_for_s: float = RETRY_FOR_S
    ) -> None:
        self._client = AsyncCrucible(url, key, retry_for_s=retry_for_s)
        self._portal: Portal | None = None

    def __enter__(self) -> Self:
        self._portal = Portal()
        self._portal.call(self._client.__aenter__())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        portal = self._running()
        try:
            portal.call(self._client.__aexit__(kind, error, traceback))
        finally:
            portal.close()
            self._portal = None

    def _running(self) -> Portal:
        if self._portal is None:
            raise RuntimeError("the client is not open; use it in a with block")
        return self._portal
'''


def text() -> str:
    """The module as it is to be."""
    tree = ast.parse(SOURCE.read_text())
    client = next(
        node
        for node in tree.body
        if isinstance(node, ast.ClassDef) and node.name == "AsyncCrucible"
    )
    methods = [
        _method(node)
        for node in client.body
        if isinstance(node, ast.AsyncFunctionDef) and not node.name.startswith("_")
    ]
    return _formatted("\n".join([_HEAD, *methods]))


def _method(node: ast.AsyncFunctionDef) -> str:
    streams = any(isinstance(inner, ast.Yield) for inner in ast.walk(node))
    arguments = ast.unparse(node.args).replace(" | AsyncIterable[str | ProgramRequest]", "")
    returned = ast.unparse(node.returns) if node.returns else "None"
    returned = re.sub(r"AsyncGenerator\[(.*), None\]", r"Iterator[\1]", returned)
    docstring = ast.get_docstring(node) or ""
    quoted = textwrap.indent(f'"""{docstring}\n"""', " " * 8).replace("\n" + " " * 8 + "\n", "\n\n")
    via = "iterate" if streams else "call"
    return (
        f"    def {node.name}({arguments}) -> {returned}:\n{quoted}\n"
        f"        return self._running().{via}(self._client.{node.name}({_passed(node.args)}))\n"
    )


def _passed(arguments: ast.arguments) -> str:
    positional = [argument.arg for argument in arguments.args if argument.arg != "self"]
    keywords = [f"{argument.arg}={argument.arg}" for argument in arguments.kwonlyargs]
    rest = [f"**{arguments.kwarg.arg}"] if arguments.kwarg else []
    return ", ".join([*positional, *keywords, *rest])


def _formatted(source: str) -> str:
    command = [sys.executable, "-m", "ruff", "format", "--stdin-filename", str(TARGET), "-"]
    return subprocess.run(
        command, input=source, capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout


if __name__ == "__main__":
    TARGET.write_text(text())

"""The interpreter of a session, inside its sandbox: cells in, one after the other.

It shares a channel with the ``driver``, its parent: four bytes of length, then JSON. What it says
is not believed beyond what it concerns, which is its own session.
"""

import ast
import base64
import contextlib
import json
import linecache
import os
import signal
import sys
import traceback
import types
import warnings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: Methods that give a value in another form, in the order in which IPython has them.
FORMS = (
    ("text/html", "_repr_html_"),
    ("text/markdown", "_repr_markdown_"),
    ("image/svg+xml", "_repr_svg_"),
    ("image/png", "_repr_png_"),
    ("image/jpeg", "_repr_jpeg_"),
    ("text/latex", "_repr_latex_"),
    ("application/json", "_repr_json_"),
)
#: A variable of the environment that matplotlib reads: figures are drawn without a screen.
os.environ.setdefault("MPLBACKEND", "Agg")


def take_exactly(fd: int, size: int) -> bytes:
    """Read so many bytes; fewer where the other side has closed."""
    data = bytearray()
    while len(data) < size:
        piece = os.read(fd, size - len(data))
        if not piece:
            break
        data += piece
    return bytes(data)


def take_message(fd: int) -> "dict[str, Any] | None":
    """The next message; None where the other side has closed."""
    head = take_exactly(fd, 4)
    size = int.from_bytes(head, "big")
    body = take_exactly(fd, size) if len(head) == 4 else b""
    if len(head) < 4 or len(body) < size:
        return None
    message: dict[str, Any] = json.loads(body)
    return message


def give_message(fd: int, message: "dict[str, Any]") -> None:
    """Write one message."""
    body = json.dumps(message).encode()
    data = memoryview(len(body).to_bytes(4, "big") + body)
    while data:
        data = data[os.write(fd, data) :]


def clean(text: str) -> str:
    """Text that can be sent: surrogates without a partner are replaced."""
    return text.encode("utf-8", "replace").decode()


class Interpreter:
    """Runs cells in one namespace.

    Args:
        channel: where cells come from and results go.
    """

    def __init__(self, channel: int) -> None:
        self.channel = channel
        self.count = 0
        self.pid = os.getpid()
        self.shown: list[dict[str, Any]] = []
        self.main = types.ModuleType("__main__")
        self.names = self.main.__dict__
        self.names.update(__builtins__=__builtins__, display=self.display)
        self.flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        self.loop: Any = None

    def serve(self) -> None:
        """Run what comes, until nothing more does."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        sys.modules["__main__"] = self.main
        sys.argv[:] = [""]
        sys.path[0] = ""
        warnings.filterwarnings("ignore", message=r".*non-(interactive|GUI).*")
        while True:
            message = take_message(self.channel)
            if message is None:
                return
            try:
                error = self.run(message["code"])
            except KeyboardInterrupt as late:
                error = described(late, None)
            if os.getpid() != self.pid:
                os._exit(0)  # forked by the cell: there is one interpreter
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(OSError, ValueError, AttributeError):
                    stream.flush()  # unless the cell has closed or replaced it
            give_message(self.channel, {"error": error, "display": self.shown})

    def run(self, code: str) -> "dict[str, Any] | None":
        """Run one cell; what it raised."""
        self.count += 1
        self.shown = []
        name = f"<cell {self.count}>"
        linecache.cache[name] = (len(code), None, code.splitlines(keepends=True), name)
        try:
            steps = parts_of(code, name, self.flags)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            return described(error, None)
        try:
            # Only while a cell runs: an interruption that comes late is of no cell.
            signal.signal(signal.SIGINT, signal.default_int_handler)
            for step, is_value in steps:
                value = self.step(step)
                if is_value and value is not None:
                    self.names["_"] = value
                    self.display(value)
            self.draw()
        except BaseException as error:  # noqa: BLE001 - the cell's own, SystemExit as well
            return described(error, self.step.__code__)
        finally:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        return None

    def step(self, code: types.CodeType) -> object:
        """Run compiled code; the value of an expression."""
        value = eval(code, self.names)  # noqa: S307 - what the sandbox is for
        if code.co_flags & 0x80:  # CO_COROUTINE: it awaits at its top level
            import asyncio

            if self.loop is None:
                self.loop = asyncio.new_event_loop()
                asyncio.set_event_loop(self.loop)
            value = self.loop.run_until_complete(value)
        return value

    def display(self, *values: object) -> None:
        """Show values, as the last expression of a cell is shown."""
        for value in values:
            self.shown.append(forms_of(value))

    def draw(self) -> None:
        """Show the figures of pyplot that the cell has left open, and close them."""
        pyplot = sys.modules.get("matplotlib.pyplot")
        if pyplot is None:
            return
        for number in pyplot.get_fignums():
            figure = pyplot.figure(number)
            self.shown.append({"text/plain": clean(repr(figure)), "image/png": picture(figure)})
        pyplot.close("all")


def parts_of(code: str, name: str, flags: int) -> "list[tuple[types.CodeType, bool]]":
    """A cell compiled: its statements, and its last expression where it ends in one.

    A semicolon at the end keeps the last expression from being shown.

    Raises:
        SyntaxError: it is no Python.
        ValueError: it has NUL bytes.
    """
    tree = ast.parse(code, name)
    last = tree.body[-1] if tree.body else None
    steps = []
    if isinstance(last, ast.Expr) and not code.rstrip().endswith(";"):
        tree.body.pop()
        value: Any = ast.Expression(last.value)
        steps = [(compile(value, name, "eval", flags, dont_inherit=True), True)]
    if tree.body:
        steps.insert(0, (compile(tree, name, "exec", flags, dont_inherit=True), False))
    return steps


def forms_of(value: object) -> "dict[str, Any]":
    """A value by media type, as a notebook keeps it."""
    forms: dict[str, Any] = {"text/plain": clean(repr(value))}
    figures = sys.modules.get("matplotlib.figure")
    if figures is not None and isinstance(value, figures.Figure):
        sys.modules["matplotlib.pyplot"].close(value)
        return forms | {"image/png": picture(value)}
    if isinstance(value, type):
        return forms
    for kind, method in FORMS:
        make = getattr(type(value), method, None)
        try:
            made = None if make is None else make(value)
            if isinstance(made, tuple):
                made = made[0]  # with metadata beside it
            if isinstance(made, bytes):
                made = base64.b64encode(made).decode()
            if made is not None:
                forms[kind] = json.loads(json.dumps(made))
                if isinstance(made, str):
                    forms[kind] = clean(made)
        except Exception:  # noqa: BLE001, S112 - a form that cannot be made is left out
            continue
    return forms


def picture(figure: "Any") -> str:
    """A figure of matplotlib as PNG in base64."""
    import io

    file = io.BytesIO()
    figure.savefig(file, format="png", bbox_inches="tight")
    return base64.b64encode(file.getvalue()).decode()


def described(error: BaseException, ours: "types.CodeType | None") -> "dict[str, Any]":
    """An exception in words.

    Args:
        error: what was raised.
        ours: code of the last frame above the cell's own; None where no frame is the cell's.
    """
    trace = error.__traceback__
    while trace is not None and ours is not None and trace.tb_frame.f_code is not ours:
        trace = trace.tb_next
    cut = trace.tb_next if trace is not None and ours is not None else None
    lines = traceback.format_exception(type(error), error, cut)
    try:
        value = str(error)
    except Exception:  # noqa: BLE001 - whatever a class of the cell's raises here
        value = ""
    return {
        "name": type(error).__name__,
        "value": clean(value),
        "traceback": [clean(line) for part in lines for line in part.splitlines()],
    }

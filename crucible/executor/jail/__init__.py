"""The supervisor: process 1 of every sandbox, and the only code of ours that runs inside one.

Its source is handed to the container through descriptor 0, to a few lines that ``python3 -c``
starts with, so that image and code cannot drift apart. It imports nothing but modules built into
the interpreter: each start of a sandbox pays for every import.

It owns the real descriptors of the container. The program gets pipes of its own and never sees
the frames, so nothing it prints can be taken for one. Process 1 of a pid namespace ignores every
signal it has no handler for when it comes from inside, SIGKILL and SIGSTOP included, and not
being dumpable closes its memory, descriptors and environment to the program, although both have
the same user id (a container without capabilities cannot have two).

One request comes in on descriptor 0: four bytes of length, then ``marshal`` (from the host, which
is trusted). Frames go out on descriptor 1: one byte of kind, four bytes of length, the payload.
``R`` ready, ``S`` request received, ``O`` standard output, ``E`` standard error, ``F`` a file (two
bytes length of its name, name, content), ``A`` a file that a compiler made (the same, with ``x`` or
``-`` before the content: executable or not), ``N`` a file that cannot be handed back (its name, and
the reason), ``U`` the processor time used so far (of programs that talk), ``X`` the end as JSON.
After the end, process 1 exits and takes everything in its pid namespace along; after a request that
says ``again`` it empties the file systems and takes another. While a program runs whose request
says ``talks``, pieces of its standard input come in on descriptor 0, each after four bytes of
length; length 0 is its end, ``STOP`` stops the program, and after its end comes ``DONE``.
"""

from __future__ import annotations

import ast
import functools
import importlib.resources
import marshal

#: Marshal's version 2 is the same in every Python 3, whichever the image has.
MARSHAL_VERSION = 2
#: In this order they make one script; each uses only names of those before it.
SINGLE = (
    "kernel", "account", "kernel_memory", "become", "startup", "collect", "run", "single",
    "program",
)  # fmt: skip
LANE = (
    "kernel", "account", "kernel_memory", "become", "startup", "collect", "run", "single",
    "namespaces", "tree", "identity", "messages", "runner", "spawner", "lane_memory", "ward",
    "lane", "program",
)  # fmt: skip
#: Parts that end in starting all of it; where there are two, the later does.
_BOOTS = ("single", "lane")


@functools.cache
def source(parts: tuple[str, ...] = SINGLE) -> str:
    """The supervisor as one script: its parts joined, without docstrings and comments.

    Imports of one part by another are dropped, since all names end up in one namespace.
    """
    folder = importlib.resources.files(__package__)
    body: list[ast.stmt] = []
    boots = [part for part in parts if part in _BOOTS][:-1]
    for part in parts:
        tree = ast.parse(folder.joinpath(f"{part}.py").read_text("utf-8"))
        for node in tree.body:
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("crucible."):
                continue
            if isinstance(node, ast.If) and part in boots and "__name__" in ast.unparse(node.test):
                continue
            body.append(node)
    for inner in ast.walk(ast.Module(body=body, type_ignores=[])):
        _drop_docstring(inner)
    return ast.unparse(ast.Module(body=body, type_ignores=[]))


#: What the container starts with. It reads the script, compiled or not, and becomes it. Short,
#: because the engine encodes and decodes, stores and passes on its arguments tens of times a start.
BOOTSTRAP = """\
import marshal, posix
def take(size):
    data = b""
    while len(data) < size:
        data += posix.read(0, size - len(data)) or posix._exit(0)
    return data
script = marshal.loads(take(int.from_bytes(take(4), "big")))
PRECOMPILED = not isinstance(script, str)
exec(script)
"""
#: What the interpreter of an image made of a script, by image id and parts. Compiling takes it
#: 5 ms at every start of a sandbox, loading what it compiled before 0.2 ms.
_compiled: dict[tuple[str, tuple[str, ...]], bytes] = {}


def script(image_id: str, parts: tuple[str, ...] = SINGLE) -> bytes:
    """What ``BOOTSTRAP`` reads in an image: length and script, compiled if it was there before."""
    code = _compiled.get((image_id, parts)) or marshal.dumps(source(parts), MARSHAL_VERSION)
    return len(code).to_bytes(4, "big") + code


def remember(image_id: str, code: bytes, parts: tuple[str, ...] = SINGLE) -> None:
    """Keep what a supervisor sent of itself as it became ready, before anything ran there.

    It goes back into sandboxes of the same image only, and is never loaded outside of one.
    """
    _compiled.setdefault((image_id, parts), code)


def _drop_docstring(node: ast.AST) -> None:
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and ast.get_docstring(node):
        node.body = node.body[1:] or [ast.Pass()]

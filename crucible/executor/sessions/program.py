"""The source of the program that runs in a session's sandbox: two modules, joined to one script."""

from __future__ import annotations

import ast
import functools
import importlib.resources

#: In this order: the second uses names of the first.
PARTS = ("interpreter", "driver")


@functools.cache
def source() -> str:
    """The script. Imports of one part by the other are dropped: all names share a namespace."""
    folder = importlib.resources.files(__package__)
    body: list[ast.stmt] = []
    for part in PARTS:
        tree = ast.parse(folder.joinpath(f"{part}.py").read_text("utf-8"))
        body += [
            node
            for node in tree.body
            if not (
                isinstance(node, ast.ImportFrom) and (node.module or "").startswith("crucible.")
            )
        ]
    return ast.unparse(ast.Module(body=body, type_ignores=[]))

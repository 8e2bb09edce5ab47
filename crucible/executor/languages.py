"""The languages a program may be in, as data: adding one is an entry here and an image."""

from __future__ import annotations

import msgspec

from crucible.errors import ExecutorRefused


class Language(msgspec.Struct, frozen=True, kw_only=True):
    """How programs of one language are laid out and started.

    Attributes:
        name: what clients write.
        file_name: the source file in the working directory, which is ``/tmp/work``.
        run: the command; its arguments follow. The first word is an absolute path.
        compile: the command that has to succeed first, in the same jail and limits, or None.
        warm: the waiting interpreter of the sandbox can run it without starting another.
        image: an image of its own, or None for the executor's.
        version: how the version is asked for, for ``crucible doctor`` and ``/api/languages``.
    """

    name: str
    file_name: str
    run: tuple[str, ...]
    compile: tuple[str, ...] | None = None
    warm: bool = False
    image: str | None = None
    version: tuple[str, ...] = ()


LANGUAGES: dict[str, Language] = {
    language.name: language
    for language in (
        Language(
            name="python",
            file_name="main.py",
            run=("/usr/bin/python3", "main.py"),
            warm=True,
            version=("/usr/bin/python3", "--version"),
        ),
        Language(
            name="javascript",
            file_name="main.js",
            run=("/usr/bin/node", "main.js"),
            version=("/usr/bin/node", "--version"),
        ),
        Language(
            name="bash",
            file_name="main.sh",
            run=("/bin/bash", "main.sh"),
            version=("/bin/bash", "--version"),
        ),
        Language(name="sh", file_name="main.sh", run=("/bin/sh", "main.sh")),
        Language(
            name="c",
            file_name="main.c",
            run=("./main",),
            compile=("/usr/bin/tcc", "-o", "main", "main.c", "-lm"),
            version=("/usr/bin/tcc", "-v"),
        ),
    )
}


def language_of(name: str) -> Language:
    """The language called ``name``.

    Raises:
        ExecutorRefused: there is none.
    """
    try:
        return LANGUAGES[name]
    except KeyError:
        known = ", ".join(LANGUAGES)
        raise ExecutorRefused(f"unknown language {name!r}; known are {known}") from None

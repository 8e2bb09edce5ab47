"""What a program left behind: found without following a link, looked at in bounded numbers.

Nothing of the program's runs any more, but its folders may be as many, as deep and as odd as its
disk allows.
"""

import errno
import posix

from crucible.executor.jail.kernel import WORK, reason_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Iterator  # noqa: UP035 - the one module that is allowed here

#: Entries of folders that are looked at for one request, and folders within one another.
MAX_ENTRIES = 10_000
MAX_DEPTH = 16
KIND, FOLDER, REGULAR = 0o170000, 0o040000, 0o100000
#: The time of files that were laid for a compiler, seconds. What has another one is its work.
LAID_S = 1
#: What no name may have that is handed back: it could not be asked for by itself either.
UNFIT = frozenset(map(chr, (*range(32), 127, ord("\\"))))


class TooManyError(Exception):
    """More entries than are looked at."""


def is_pattern(name: str) -> bool:
    """Whether a name of an output file stands for several."""
    return "*" in name or "?" in name


def matches(name: str, pattern: str) -> bool:
    """Whether one part of a path is what a part of a pattern stands for, as in a shell."""
    if name[:1] == "." and pattern[:1] != ".":
        return False
    at = place = 0
    star, again = -1, 0
    while at < len(name):
        if place < len(pattern) and pattern[place] == "*":
            star, again = place, at
            place += 1
        elif place < len(pattern) and pattern[place] in ("?", name[at]):
            place += 1
            at += 1
        elif star >= 0:
            # The last star takes one character more.
            place, again = star + 1, again + 1
            at = again
        else:
            return False
    return not pattern[place:].strip("*")


def is_fit(name: str) -> bool:
    """Whether a name can be sent to a client: UTF-8, no control characters, no backslash."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return UNFIT.isdisjoint(name)


def tell(name: str) -> bytes:
    """A name as UTF-8, whatever bytes it has."""
    return name.encode("utf-8", "backslashreplace")


class Finder:
    """Looks through the working directory for one request.

    Attributes:
        left: entries that may still be looked at.
        reason: why a folder could not be looked into, since the last pattern began.
    """

    def __init__(self, home: str = WORK) -> None:
        self.home = home
        self.left = MAX_ENTRIES
        self.reason = b""
        self.refused: dict[str, bytes] = {}
        self.listed: dict[str, list[tuple[str, int, float]]] = {}

    def entries(self, folder: str) -> "list[tuple[str, int, float]]":
        """Name, mode and time of what is in a folder, in order.

        Args:
            folder: empty, or ends with a slash.

        Raises:
            TooManyError: there are more than may be looked at.
        """
        if folder not in self.listed:
            self.listed[folder] = self.read_folder(folder)
        self.reason = self.refused.get(folder, self.reason)
        return self.listed[folder]

    def read_folder(self, folder: str) -> "list[tuple[str, int, float]]":
        """Read a folder; nothing, and a reason, where that cannot be done."""
        found = []
        try:
            here = open_folder(folder, self.home)
        except OSError as error:
            if error.errno != errno.ENOENT:
                self.refused[folder] = reason_of(error)
            return []
        try:
            with posix.scandir(here) as entries:
                for entry in entries:
                    self.left -= 1
                    if self.left < 0:
                        raise TooManyError
                    stat = entry.stat(follow_symlinks=False)
                    found.append((entry.name, stat.st_mode, stat.st_mtime))
        finally:
            posix.close(here)
        return sorted(found)

    def find(self, pattern: str) -> "Iterator[str]":
        """Every path that a pattern stands for, each once.

        Raises:
            TooManyError: too many entries would have to be looked at.
        """
        self.reason = b""
        seen = set()
        for path in self.descend("", pattern.split("/")):
            if path not in seen:
                seen.add(path)
                yield path

    def descend(self, folder: str, parts: "list[str]") -> "Iterator[str]":
        """Paths below a folder that the rest of a pattern stands for."""
        part, rest = parts[0], parts[1:]
        if folder.count("/") > MAX_DEPTH:
            raise TooManyError
        if part == "**":
            yield from self.descend_any(folder, parts)
        elif rest and not is_pattern(part):
            yield from self.descend(f"{folder}{part}/", rest)
        else:
            for name, mode, _ in self.entries(folder):
                if name != part and not (is_pattern(part) and matches(name, part)):
                    continue
                if not rest:
                    yield folder + name
                elif mode & KIND == FOLDER:
                    yield from self.descend(f"{folder}{name}/", rest)

    def descend_any(self, folder: str, parts: "list[str]") -> "Iterator[str]":
        """The same where the next part stands for any folders, or at the end for any files."""
        rest = parts[1:]
        if rest:
            yield from self.descend(folder, rest)
        for name, mode, _ in self.entries(folder):
            if name[0] == ".":
                continue
            if mode & KIND == FOLDER:
                yield from self.descend(f"{folder}{name}/", parts)
            elif not rest:
                yield folder + name

    def made(self, folder: str = "") -> "Iterator[str]":
        """Every regular file that was not laid here for a compiler.

        Raises:
            TooManyError: too many entries would have to be looked at.
        """
        if folder.count("/") > MAX_DEPTH:
            raise TooManyError
        for name, mode, changed_s in self.entries(folder):
            if mode & KIND == FOLDER:
                yield from self.made(f"{folder}{name}/")
            elif mode & KIND == REGULAR and changed_s != LAID_S:
                yield folder + name


def open_folder(folder: str, home: str) -> int:
    """Open a folder below the working directory, following no link.

    Raises:
        OSError: it is not there, is none, or cannot be read.
    """
    flags = posix.O_RDONLY | posix.O_NOFOLLOW | posix.O_DIRECTORY | posix.O_CLOEXEC
    here = posix.open(home, flags)
    for part in folder.split("/")[:-1]:
        try:
            there = posix.open(part, flags, dir_fd=here)
        finally:
            posix.close(here)
        here = there
    return here


def empty(folder: str) -> None:
    """Remove all that is in a folder, however deep, with a few descriptors.

    What is in a folder in it is moved up one level until that one is empty.

    Raises:
        OSError: something cannot be removed.
    """
    flags = posix.O_RDONLY | posix.O_NOFOLLOW | posix.O_DIRECTORY | posix.O_CLOEXEC
    top = posix.open(folder, flags)
    number = 0
    while names := posix.listdir(top):
        for name in names:
            if posix.stat(name, dir_fd=top, follow_symlinks=False).st_mode & KIND != FOLDER:
                posix.unlink(name, dir_fd=top)
                continue
            posix.chmod(name, 0o700, dir_fd=top)
            inner = posix.open(name, flags, dir_fd=top)
            for below in posix.listdir(inner):
                number += 1
                if posix.stat(below, dir_fd=inner, follow_symlinks=False).st_mode & KIND == FOLDER:
                    posix.chmod(below, 0o700, dir_fd=inner)
                posix.rename(below, f".{number}.moved", src_dir_fd=inner, dst_dir_fd=top)
            posix.close(inner)
            posix.rmdir(name, dir_fd=top)
    posix.close(top)

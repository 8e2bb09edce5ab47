"""What a sandbox image holds, as data; two equal definitions have the same tag."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import msgspec

from crucible.errors import SettingsError

#: The repository every image built here is tagged in.
REPOSITORY = "crucible-sandbox"
#: The tag that follows the newest build.
LATEST = f"{REPOSITORY}:latest"
#: The account programs run as. One of its own: ``nobody`` is what foreign files show up as.
SANDBOX_USER = "sandbox"
SANDBOX_UID = 1000
SANDBOX_GID = 1000
#: Raised when the builder turns the same packages into other content.
RECIPE = 2

#: A Debian package, optionally with its architecture or version (Debian policy 5.6.1).
_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]+\Z")
#: A pinned Python distribution (PEP 508 name, exact version), no options, no addresses.
_PINNED = re.compile(
    r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?(?:\[[A-Za-z0-9,._-]+\])?"
    r"==[A-Za-z0-9][A-Za-z0-9.!+_-]*\Z"
)


class ImageDefinition(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that decides an image's content.

    Attributes:
        suite: Debian release the packages come from.
        packages: Debian packages on top of the minimal base, sorted. ``libnss-myhostname`` knows
            ``localhost``, which an engine's empty ``/etc/hosts`` does not.
        python_packages: pinned Python distributions, sorted.
        left_out: packages of the base whose files are removed again: they manage a system that
            nobody manages inside a sandbox, and most of what is set-uid is theirs.
        recipe: version of the builder's own rules.
    """

    suite: str = "bookworm"
    packages: tuple[str, ...] = ("libc6-dev", "libnss-myhostname", "nodejs", "python3", "tcc")
    python_packages: tuple[str, ...] = ()
    left_out: tuple[str, ...] = (
        "adduser",
        "apt",
        "debconf",
        "debian-archive-keyring",
        "dpkg",
        "e2fsprogs",
        "gpgv",
        "init-system-helpers",
        "libapt-pkg6.0",
        "libdebconfclient0",
        "libext2fs2",
        "libgnutls30",
        "libhogweed6",
        "libnettle8",
        "libp11-kit0",
        "libpam-runtime",
        "libsemanage-common",
        "libsemanage2",
        "libsepol2",
        "libss2",
        "libtasn1-6",
        "login",
        "logsave",
        "mount",
        "passwd",
        "perl-base",
        "sysvinit-utils",
        "util-linux-extra",
    )
    recipe: int = RECIPE

    @property
    def digest(self) -> str:
        """The first 16 hex digits of the SHA-256 of the definition's canonical JSON."""
        return hashlib.sha256(msgspec.json.encode(self, order="sorted")).hexdigest()[:16]

    @property
    def reference(self) -> str:
        """The image's name in the engine, such as ``crucible-sandbox:0123456789abcdef``."""
        return f"{REPOSITORY}:{self.digest}"


def parse_requirements(text: str, source: str = "") -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Debian packages and Python distributions of an operator's list, sorted, each once.

    One a line: a Debian package's name, or ``pip:NAME==VERSION``. ``#`` starts a comment.

    Raises:
        SettingsError: a line is neither; it is named with its number.
    """
    debian: set[str] = set()
    python: set[str] = set()
    for number, raw in enumerate(text.splitlines(), start=1):
        line = raw.partition("#")[0].strip()
        if not line:
            continue
        if line.startswith("pip:") and _PINNED.match(line[4:].strip()):
            python.add(line[4:].strip())
        elif _PACKAGE.match(line):
            debian.add(line)
        else:
            raise SettingsError(
                "CRUCIBLE_SANDBOX_PACKAGES_FILE",
                f"{source or 'the list'}, line {number}: {line!r} is neither a Debian package "
                "name nor pip:NAME==VERSION",
            )
    return tuple(sorted(debian)), tuple(sorted(python))


def load_definition(packages_file: str = "") -> ImageDefinition:
    """The default image, with what an operator's list adds to it.

    Args:
        packages_file: path of the list; empty means there is none.

    Raises:
        SettingsError: the list cannot be read or has a line that is no package.
    """
    base = ImageDefinition()
    if not packages_file:
        return base
    try:
        text = Path(packages_file).expanduser().read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            "CRUCIBLE_SANDBOX_PACKAGES_FILE", f"cannot read {packages_file}: {error}"
        ) from error
    debian, python = parse_requirements(text, packages_file)
    return msgspec.structs.replace(
        base,
        packages=tuple(sorted({*base.packages, *debian})),
        python_packages=python,
        # What an operator asks for by name stays.
        left_out=tuple(name for name in base.left_out if name not in debian),
    )

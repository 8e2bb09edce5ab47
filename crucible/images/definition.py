"""What a sandbox image contains, as data; equal definitions have the same tag."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from crucible.environments import DEFAULT, PACKAGE, PINNED, REPOSITORY
from crucible.errors import SettingsError

if TYPE_CHECKING:
    from crucible.environments import Environment

#: The account programs run as. Not ``nobody``, which owns files whose owner is not mapped.
SANDBOX_USER = "sandbox"
SANDBOX_UID = 1000
SANDBOX_GID = 1000
#: Raised when the builder turns the same packages into other content.
RECIPE = 3


class ImageDefinition(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that determines an image's content.

    Attributes:
        suite: Debian release the packages come from.
        packages: Debian packages on top of the minimal base, sorted. ``libnss-myhostname`` knows
            ``localhost``, which an engine's empty ``/etc/hosts`` does not.
        python_packages: pinned Python distributions, sorted.
        left_out: packages of the base whose files are removed again: tools for managing a system,
            which own most set-uid files.
        recipe: version of the builder's own rules.
    """

    suite: str = "bookworm"
    packages: tuple[str, ...] = DEFAULT.packages
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
    """Debian packages and Python distributions of an operator's list, sorted and unique.

    One per line: a Debian package's name, or ``pip:NAME==VERSION``. ``#`` starts a comment.

    Raises:
        SettingsError: a line is neither; the message has its number.
    """
    debian: set[str] = set()
    python: set[str] = set()
    for number, raw in enumerate(text.splitlines(), start=1):
        line = raw.partition("#")[0].strip()
        if not line:
            continue
        if line.startswith("pip:") and PINNED.match(line[4:].strip()):
            python.add(line[4:].strip())
        elif PACKAGE.match(line):
            debian.add(line)
        else:
            raise SettingsError(
                "CRUCIBLE_SANDBOX_PACKAGES_FILE",
                f"{source or 'the list'}, line {number}: {line!r} is neither a Debian package "
                "name nor pip:NAME==VERSION",
            )
    return tuple(sorted(debian)), tuple(sorted(python))


def load_definition(packages_file: str = "") -> ImageDefinition:
    """The default image plus the packages of an operator's list.

    Args:
        packages_file: path of the list; empty means there is none.

    Raises:
        SettingsError: the list cannot be read or has an invalid line.
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
        # A package the operator lists is not left out.
        left_out=tuple(name for name in base.left_out if name not in debian),
    )


def definition_of(environment: Environment, packages_file: str = "") -> ImageDefinition:
    """What the image of an environment built from packages contains.

    Args:
        environment: with what its base has.
        packages_file: the operator's list for the default environment, which all others build on.

    Raises:
        SettingsError: the list cannot be read or has a line that is no package.
    """
    default = load_definition(packages_file)
    packages = tuple(sorted({*default.packages, *environment.packages}))
    left_out = {*default.left_out, *environment.left_out} - {*packages}
    return msgspec.structs.replace(
        default,
        packages=packages,
        python_packages=tuple(sorted({*default.python_packages, *environment.wheels})),
        left_out=tuple(sorted(left_out)),
    )

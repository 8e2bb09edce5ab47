"""Environments: the images programs run in, by the names that requests use.

An environment is data: packages on top of another environment's, or an external image. Three are
built in; an installation's own are tables of ``crucible.toml``::

    [environments.geo]
    base = "data"
    packages = ["python3-shapely"]
    wheels = ["h3==3.7.7"]
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta

from crucible.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping

#: The repository every image built here is tagged in.
REPOSITORY = "crucible-sandbox"
#: The tag of the default environment's newest build.
LATEST = f"{REPOSITORY}:latest"
#: The environment of a request that names none, where it has the language.
DEFAULT_NAME = "default"

#: On every image built here: versions of its languages by name, as JSON.
VERSIONS_LABEL = "crucible.image.versions"

#: A tag of ``REPOSITORY`` that is neither ``latest`` nor the digest of a definition.
_NAME = re.compile(r"(?!latest\Z)(?![0-9a-f]{16}\Z)[a-z0-9](?:[a-z0-9._-]{0,30}[a-z0-9])?\Z")
_IMAGE = re.compile(r"[^\s@]+@sha256:[0-9a-f]{64}\Z")
_MODULE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*\Z")
#: A Debian package, optionally with its architecture or version (Debian policy 5.6.1).
PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]+\Z")
#: A pinned Python distribution (PEP 508 name, exact version), no options, no addresses.
PINNED = re.compile(
    r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?(?:\[[A-Za-z0-9,._-]+\])?"
    r"==[A-Za-z0-9][A-Za-z0-9.!+_-]*\Z"
)


class EnvironmentTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An installation's own environment as ``[environments.NAME]`` has it.

    Attributes:
        base: the environment it adds to.
        packages: Debian packages.
        wheels: Python distributions from PyPI, each ``NAME==VERSION``.
        image: an external image, by digest, instead of packages. It has to have
            ``/usr/bin/python3``, which the supervisor of every sandbox runs in.
        languages: what programs in that image may be written in; for packages it follows from them.
        preload: Python modules that waiting interpreters have imported.
        least_memory_mb: least ``limits.memory_mb`` of its programs; those modules take some of it.
    """

    base: str = DEFAULT_NAME
    packages: list[str] = []
    wheels: list[str] = []
    image: str = ""
    languages: list[str] = []
    preload: list[str] = []
    least_memory_mb: Annotated[int, Meta(ge=16)] = 16


class Environment(msgspec.Struct, frozen=True, kw_only=True):
    """One environment, with all that it has from its base.

    Attributes:
        name: ``environment`` of a request.
        base: the environment whose image it is a layer on; empty for none.
        packages: Debian packages, the base's included.
        wheels: pinned Python distributions, the base's included.
        image: an external image by digest; empty for one built from packages.
        languages: names of what that image has.
        preload: Python modules that waiting interpreters have imported.
        least_memory_mb: least ``limits.memory_mb`` of its programs.
        left_out: packages that others ask for and whose files are of no use in a sandbox.
    """

    name: str
    base: str = DEFAULT_NAME
    packages: tuple[str, ...] = ()
    wheels: tuple[str, ...] = ()
    image: str = ""
    languages: tuple[str, ...] = ()
    preload: tuple[str, ...] = ()
    least_memory_mb: int = 16
    left_out: tuple[str, ...] = ()

    @property
    def reference(self) -> str:
        """The name of its newest image in the engine."""
        return LATEST if self.name == DEFAULT_NAME else f"{REPOSITORY}:{self.name}"


class EnvironmentState(msgspec.Struct, frozen=True, kw_only=True):
    """What an engine has of an environment.

    Attributes:
        name: of the environment.
        image_id: ``sha256:…``; empty when it was not built.
        size_bytes: of the image, uncompressed.
        versions: of its languages, as found when it was built.
    """

    name: str
    image_id: str = ""
    size_bytes: int = 0
    versions: dict[str, str] = {}


def state_of(name: str, image: Mapping[str, Any]) -> EnvironmentState:
    """The state of an environment by what an engine says about its image."""
    labels = (image.get("Config") or {}).get("Labels") or {}
    return EnvironmentState(
        name=name,
        image_id=str(image["Id"]),
        size_bytes=int(image.get("Size") or 0),
        versions=versions_of(labels.get(VERSIONS_LABEL, "")),
    )


def versions_of(label: str) -> dict[str, str]:
    """The versions that an image's label lists; none where it has no such label."""
    try:
        return msgspec.json.decode(label, type=dict[str, str])
    except msgspec.DecodeError:
        return {}


DEFAULT = Environment(
    name=DEFAULT_NAME,
    base="",
    packages=("libc6-dev", "libnss-myhostname", "nodejs", "python3", "tcc"),
)
JUDGE = Environment(
    name="judge",
    packages=tuple(
        sorted(
            {
                *DEFAULT.packages,
                "g++",
                "gcc",
                "golang-go",
                "lua5.4",
                "node-typescript",
                "openjdk-17-jdk-headless",
                "perl",
                "perl-base",
                "php-cli",
                "ruby",
                "rustc",
            }
        )
    ),
    # Printing, which Java would do if there were a printer.
    left_out=("libavahi-client3", "libavahi-common3", "libcups2"),
)
DATA = Environment(
    name="data",
    packages=tuple(
        sorted(
            {
                *DEFAULT.packages,
                # The reference BLAS that scipy would bring is an order of magnitude slower.
                "libopenblas0-pthread",
                "python3-jinja2",
                "python3-matplotlib",
                "python3-numpy",
                "python3-pandas",
                "python3-scipy",
                "python3-sympy",
            }
        )
    ),
    preload=("numpy",),
    least_memory_mb=64,
    # What scipy's ahead-of-time compiler of Python needs, and that compiler: half of the image.
    left_out=(
        "binutils-common",
        "binutils-x86-64-linux-gnu",
        "cpp-12",
        "g++-12",
        "gcc-12",
        "libasan8",
        "libboost1.74-dev",
        "libgcc-12-dev",
        "libopenblas-pthread-dev",
        "libperl5.36",
        "libpython3.11-dev",
        "libstdc++-12-dev",
        "libtsan2",
        "perl",
        "perl-modules-5.36",
        "python3-pythran",
        "unicode-data",
    ),
)
BUILT_IN: dict[str, Environment] = {one.name: one for one in (DEFAULT, JUDGE, DATA)}


def known_environments(own: Mapping[str, EnvironmentTable]) -> dict[str, Environment]:
    """Every environment there is: those built in, then an installation's own.

    Raises:
        SettingsError: a table cannot be used; it is named with its key.
    """
    known = dict(BUILT_IN)
    for name in own:
        _resolve(name, own, known, ())
    return known


def served_environments(
    names: tuple[str, ...], own: Mapping[str, EnvironmentTable]
) -> tuple[Environment, ...]:
    """The environments that are served, in their order.

    Args:
        names: as the setting has them; none means the default and an installation's own.
        own: the installation's own.

    Raises:
        SettingsError: a name is unknown or comes twice, or a table cannot be used.
    """
    known = known_environments(own)
    chosen = names or (DEFAULT_NAME, *own)
    for name in chosen:
        if name not in known:
            raise SettingsError(
                "CRUCIBLE_ENVIRONMENTS", f"{name!r} is unknown; known are {', '.join(known)}"
            )
        if chosen.count(name) > 1:
            raise SettingsError("CRUCIBLE_ENVIRONMENTS", f"names {name!r} twice")
    return tuple(known[name] for name in chosen)


def _resolve(
    name: str,
    own: Mapping[str, EnvironmentTable],
    known: dict[str, Environment],
    above: tuple[str, ...],
) -> Environment:
    """An environment with what its base has, noted in ``known``."""
    if name in own and name in BUILT_IN:
        raise SettingsError(f"environments.{name}", "is built in; choose another name")
    if name in known:
        return known[name]
    if name in above:
        raise SettingsError(
            f"environments.{name}.base", f"{' → '.join((*above, name))} is a circle"
        )
    if name not in own:
        raise SettingsError(f"environments.{above[-1]}.base", f"{name!r} is unknown")
    table = own[name]
    _check(name, table)
    if table.image:
        known[name] = Environment(
            name=name,
            base="",
            image=table.image,
            languages=tuple(table.languages) or ("python",),
            preload=tuple(table.preload),
            least_memory_mb=table.least_memory_mb,
        )
        return known[name]
    base = _resolve(table.base, own, known, (*above, name))
    if base.image:
        raise SettingsError(
            f"environments.{name}.base", f"{base.name!r} is an external image, not packages"
        )
    known[name] = Environment(
        name=name,
        base=base.name,
        packages=tuple(sorted({*base.packages, *table.packages})),
        wheels=tuple(sorted({*base.wheels, *table.wheels})),
        preload=tuple(dict.fromkeys((*base.preload, *table.preload))),
        least_memory_mb=max(base.least_memory_mb, table.least_memory_mb),
        left_out=tuple(name for name in base.left_out if name not in table.packages),
    )
    return known[name]


def _check(name: str, table: EnvironmentTable) -> None:
    """Refuse what could not be built, and what an installer would take for an option."""
    where = f"environments.{name}"
    if not _NAME.match(name):
        raise SettingsError(where, "the name must be 1 to 32 of a-z, 0-9, '.', '_' and '-'")
    patterns = {"packages": PACKAGE, "wheels": PINNED, "preload": _MODULE}
    for key, pattern in patterns.items():
        for word in getattr(table, key):
            if not pattern.match(word):
                raise SettingsError(f"{where}.{key}", f"{word!r} cannot be used")
    if not table.image:
        if table.languages:
            raise SettingsError(f"{where}.languages", "follows from the packages")
        return
    if not _IMAGE.match(table.image):
        raise SettingsError(f"{where}.image", "must end with @sha256: and 64 hex digits")
    if table.packages or table.wheels or table.base != DEFAULT_NAME:
        raise SettingsError(f"{where}.image", "comes instead of base, packages and wheels")

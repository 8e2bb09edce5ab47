"""Engine and runtime versions with published container escapes."""

from __future__ import annotations

import re

import msgspec

from crucible.doctor.check import Check, failed, passed, warned

Version = tuple[int, ...]


class Escape(msgspec.Struct, frozen=True):
    """A published container escape.

    Attributes:
        component: the affected component, as the engine names it.
        cve: its identifiers.
        what: what it allows.
        fixed: the first fixed release of each branch that got a fix.
    """

    component: str
    cve: str
    what: str
    fixed: tuple[Version, ...]


#: From the projects' own advisories.
ESCAPES = (
    Escape("runc", "CVE-2019-5736", "a program overwrites the runtime itself", ((1, 0, 0),)),
    Escape(
        "runc", "CVE-2024-21626", "a leaked descriptor leads to the host's files", ((1, 1, 12),)
    ),
    Escape(
        "runc",
        "CVE-2025-31133, -52565, -52881",
        "masked paths and procfs writes can be redirected while a container starts",
        ((1, 2, 8), (1, 3, 3)),
    ),
    Escape(
        "containerd",
        "CVE-2024-40635",
        "a user id too large becomes root inside",
        ((1, 6, 38), (1, 7, 27), (2, 0, 4)),
    ),
)
#: Applies only with an authorization plug-in.
AUTHZ = Escape(
    "Engine",
    "CVE-2024-41110",
    "an API request gets past the authorization plug-in",
    ((23, 0, 15), (25, 0, 6), (26, 1, 5), (27, 1, 1)),
)

_NUMBERS = re.compile(r"v?(\d+(?:\.\d+)*)")
#: A distribution's build, which gets fixes without a new upstream version number.
_DISTRIBUTION = re.compile(r"[+~-](?:ds|dfsg|deb|\d*ubuntu|\d+\.(?:el|fc|amzn))", re.IGNORECASE)


def numbers(version: str) -> Version:
    """The leading numbers of a version: ``1.1.5+ds1`` is ``(1, 1, 5)``; empty if none."""
    match = _NUMBERS.match(version)
    return tuple(int(part) for part in match.group(1).split(".")) if match else ()


def is_distribution_build(version: str) -> bool:
    """Whether ``version`` is numbered by a Linux distribution, such as ``1.1.5+ds1-1+deb12u1``."""
    return bool(_DISTRIBUTION.search(version))


def is_affected(version: Version, fixed: tuple[Version, ...]) -> bool:
    """Whether ``version`` came before the fix of its branch.

    A branch without a fix of its own is affected when a later branch needed one.
    """
    for first_good in fixed:
        if version[:2] == first_good[:2]:
            return version < first_good
    return version < max(fixed)


def judge_component(component: str, version: str, *, authz: bool = False) -> Check:
    """Judge the version of one component of the engine by the published escapes."""
    name = f"{component} version"
    found = numbers(version)
    if not found:
        return warned(
            name,
            f"{version!r} cannot be compared with known escapes",
            "look the version up in the project's advisories",
        )
    escapes = (*ESCAPES, AUTHZ) if authz else ESCAPES
    open_ones = [e for e in escapes if e.component == component and is_affected(found, e.fixed)]
    if not open_ones:
        return passed(name, f"{version}, no known escape")
    published = "; ".join(f"{escape.cve}: {escape.what}" for escape in open_ones)
    if is_distribution_build(version):
        return warned(
            name,
            f"{version} is older than the fix of {published}. The distribution may have fixed it "
            "without changing the number, which cannot be detected from here",
            f"apt-get update && apt-get upgrade; then look for the identifiers in "
            f"`apt-get changelog {component.lower()}` or the distribution's security tracker",
        )
    good = ", ".join(".".join(map(str, fix)) for fix in open_ones[-1].fixed)
    return failed(name, f"{version}: {published}", f"upgrade {component} to {good} or later")

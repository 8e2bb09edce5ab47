"""Turns an installed Debian tree into an image's tree: no caches, no build traces, no set-uid."""

from __future__ import annotations

import re
import shutil
import stat
from typing import TYPE_CHECKING

from crucible.images.definition import SANDBOX_GID, SANDBOX_UID, SANDBOX_USER

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from crucible.images.definition import ImageDefinition

#: Emptied but kept as directories: mount points, and what only a running system fills.
EMPTIED = ("dev", "proc", "run", "sys", "tmp", "var/tmp", "var/log", "var/cache", "boot", "mnt")
#: Removed: documentation, translations, package lists, backups of account files, build traces.
REMOVED = (
    "debootstrap",
    "etc/.pwd.lock",
    "etc/alternatives/README",
    "etc/apt",
    "etc/cron.d",
    "etc/cron.daily",
    "etc/dpkg",
    "etc/group-",
    "etc/gshadow-",
    "etc/hostname",
    "etc/init.d",
    "etc/pam.d",
    "etc/rc?.d",
    "etc/security",
    "etc/logrotate.d",
    "etc/machine-id",
    "etc/passwd-",
    "etc/resolv.conf",
    "etc/shadow-",
    "etc/skel",
    "etc/subgid",
    "etc/subgid-",
    "etc/subuid",
    "etc/subuid-",
    "etc/systemd",
    "lib/systemd",
    "root/.bashrc",
    "root/.profile",
    "usr/include/linux/netfilter",
    "usr/lib/apt",
    "usr/lib/dpkg",
    "usr/lib/init",
    "usr/lib/lsb",
    "usr/lib/systemd",
    "usr/lib/udev",
    "usr/sbin/update-passwd",
    "usr/share/base-files",
    "usr/share/base-passwd",
    "usr/share/bash-completion",
    "usr/share/bug",
    "usr/share/common-licenses",
    "usr/share/debconf",
    "usr/share/dict",
    "usr/share/doc",
    "usr/share/doc-base",
    "usr/share/info",
    "usr/share/lintian",
    "usr/share/locale",
    "usr/share/man",
    "usr/share/nodejs/**/*.md",
    "usr/share/keyrings",
    "usr/share/menu",
    "usr/share/pam",
    "usr/share/pam-configs",
    "usr/share/pixmaps",
    "usr/share/polkit-1",
    "usr/share/perl5",
    "etc/ssh/ssh_host_*",
    # Certificates of the network that is not there, with the time of the build in each.
    "etc/ssl/certs/java",
    "etc/ssl/private",
    "var/backups",
    "var/lib/apt",
    "var/lib/dpkg",
    "var/lib/php/sessions",
    "var/lib/systemd",
    # Programs are linked against the shared C library; the static one is 9 MB of no use.
    "usr/lib/*-linux-gnu/libc.a",
    "usr/lib/*-linux-gnu/libcrypt.a",
    "usr/lib/*-linux-gnu/libm-*.a",
    "usr/lib/*-linux-gnu/libmvec.a",
    "usr/lib/*-linux-gnu/libnsl.a",
    "usr/lib/*-linux-gnu/libresolv.a",
    "usr/lib/*-linux-gnu/libtirpc.a",
    # Parts of compilers that compiling one program does not need.
    "usr/bin/*-lto-dump-*",
    "usr/lib/gcc/*/*/lto1",
    "usr/lib/jvm/*/jmods",
    "usr/share/go-*/src/**/*_test.go",
    "usr/share/go-*/src/**/testdata",
    "usr/share/go-*/test",
    "usr/share/nodejs/typescript/lib/tsserver*.js",
    "usr/share/nodejs/typescript/lib/typescriptServices*",
    "usr/share/nodejs/typescript/lib/typingsInstaller.js",
)
#: Directories that must exist since the root is read-only: mode and owner.
DIRECTORIES = {
    "dev": 0o755,
    "proc": 0o555,
    "run": 0o755,
    "sys": 0o555,
    "tmp": 0o1777,
    "var/tmp": 0o1777,
    "work": 0o755,
}
#: The image's package list: one ``name=version`` per line.
MANIFEST = "usr/share/crucible/packages.txt"
#: What the links from /etc to the accounts lead to.
ACCOUNT = "run/account"

_STATUS_FIELD = re.compile(r"^(Package|Version|Status): (.*)$", re.MULTILINE)
#: Days since 1970 of the last password change. All accounts are locked; fixed, so that the build
#: day is not in the image.
_SHADOW_DAY = re.compile(r"^([^:]*:[^:]*:)\d+:", re.MULTILINE)


def installed_packages(status: str) -> list[str]:
    """``name=version`` of every installed package in dpkg's status file, sorted."""
    found = []
    for paragraph in status.split("\n\n"):
        fields = dict(_STATUS_FIELD.findall(paragraph))
        if fields.get("Status") == "install ok installed":
            found.append(f"{fields['Package']}={fields['Version']}")
    return sorted(found)


def plain_mode(mode: int, *, directory: bool) -> int:
    """``mode`` without set-uid and set-gid, and writable by others only under a sticky bit."""
    kept = mode & 0o1777
    if not (directory and kept & stat.S_ISVTX):
        kept &= ~(stat.S_IWOTH | stat.S_ISVTX)
    return kept


def package_files(root: Path, name: str) -> set[str]:
    """Paths (relative to ``root``) that dpkg lists for the installed package ``name``."""
    info = root / "var/lib/dpkg/info"
    found: set[str] = set()
    for listing in (*info.glob(f"{name}.list"), *info.glob(f"{name}:*.list")):
        found.update(line.lstrip("/") for line in listing.read_text("utf-8").splitlines())
    return found


def leave_out(root: Path, names: Iterable[str]) -> None:
    """Remove the files of the packages ``names``, except directories and files others own too."""
    names = set(names)
    info = root / "var/lib/dpkg/info"
    others: set[str] = set()
    doomed: set[str] = set()
    for listing in info.glob("*.list"):
        owner = listing.stem.partition(":")[0]
        lines = {line.lstrip("/") for line in listing.read_text("utf-8").splitlines()}
        (doomed if owner in names else others).update(lines)
    for name in doomed - others:
        path = root / name
        if path.is_symlink() or path.is_file():
            path.unlink()


def clean(root: Path, definition: ImageDefinition) -> None:
    """Turn the freshly installed tree at ``root`` into an image's tree, in place."""
    manifest = installed_packages((root / "var/lib/dpkg/status").read_text("utf-8"))
    leave_out(root, definition.left_out)
    left_out = set(definition.left_out)
    kept = [line for line in manifest if line.partition("=")[0] not in left_out]
    for name in EMPTIED:
        _empty(root / name)
    for pattern in REMOVED:
        for path in list(root.glob(pattern)):
            _remove(path)
    _remove_dead_links(root, [root / "etc", root / "usr"])
    _write(root / MANIFEST, "".join(f"{line}\n" for line in [*kept, *definition.python_packages]))
    add_account(root)
    for name, mode in DIRECTORIES.items():
        (root / name).mkdir(exist_ok=True)
        (root / name).chmod(mode)
    _strip_modes(root)


def add_account(root: Path) -> None:
    """The unprivileged account, without the tools that would also stamp the day and make a home.

    A sandbox's user has a number of its own, so ``/etc/passwd`` and ``/etc/group`` lead to where
    its supervisor writes them (``executor.jail.account``); below that mount are those of the image.
    """
    lines = {
        "etc/passwd": f"{SANDBOX_USER}:x:{SANDBOX_UID}:{SANDBOX_GID}:sandbox:/work:/bin/sh\n",
        "etc/group": f"{SANDBOX_USER}:x:{SANDBOX_GID}:\n",
        "etc/shadow": f"{SANDBOX_USER}:!:1:0:99999:7:::\n",
    }
    for name, line in lines.items():
        path = root / name
        text = path.read_text("utf-8") if path.exists() else ""
        text = _SHADOW_DAY.sub(r"\g<1>1:", text) if name == "etc/shadow" else text
        if not any(old.startswith(f"{SANDBOX_USER}:") for old in text.splitlines()):
            text += line
        _write(path, text)
    for name in ("passwd", "group"):
        moved = root / ACCOUNT / name
        if not (root / "etc" / name).is_symlink():
            moved.parent.mkdir(parents=True, exist_ok=True)
            (root / "etc" / name).rename(moved)
            (root / "etc" / name).symlink_to(f"../{ACCOUNT}/{name}")


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")


def _empty(directory: Path) -> None:
    if directory.is_symlink() or not directory.is_dir():
        return
    for child in directory.iterdir():
        _remove(child)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _remove_dead_links(root: Path, tops: list[Path]) -> None:
    """Remove dangling links, repeatedly: removing one may leave another dangling."""
    links = [path for top in tops for path in top.rglob("*") if path.is_symlink()]
    while dead := [path for path in links if path.is_symlink() and not _leads(root, path)]:
        for path in dead:
            path.unlink()


def _leads(root: Path, link: Path) -> bool:
    target = link.readlink()
    where = root / target.relative_to("/") if target.is_absolute() else link.parent / target
    # These targets are mounted into every container and do not exist during the build.
    mounted = target.is_absolute() and target.parts[1] in {"dev", "proc", "run", "sys"}
    return mounted or where.is_symlink() or where.exists()


def _strip_modes(root: Path) -> None:
    for path in root.rglob("*"):
        if path.is_symlink():
            continue
        mode = stat.S_IMODE(path.lstat().st_mode)
        plain = plain_mode(mode, directory=path.is_dir())
        if plain != mode:
            path.chmod(plain)

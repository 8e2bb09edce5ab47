# ruff: noqa: S108 - paths inside the sandbox, where nobody else is
"""The mount tree that programs of a lane start from: small, since each of them gets a copy.

The engine's tree has some thirty mounts; a copy costs by their number. This one shows the image
read-only, devices without danger, and of ``/proc`` and ``/sys`` what is needed to go on from.
"""

import posix

from crucible.executor.jail.account import ACCOUNT
from crucible.executor.jail.kernel import WORK, look_up
from crucible.executor.jail.namespaces import (
    BIND,
    DETACH,
    NO_DEVICES,
    NO_EXEC,
    NO_SUID,
    NO_TIMES,
    PRIVATE,
    READ_ONLY,
    RECURSIVE,
    REMOUNT,
    bind,
    demand,
    mount,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from crucible.executor.jail.namespaces import Call

#: Where the tree is built before it becomes the root: any empty folder of the image.
PLACE = "/tmp"
#: Made by hand, not taken from the image.
OWN = frozenset(("proc", "sys", "dev", "tmp"))
DEVICES = ("null", "zero", "full", "random", "urandom")
#: Folders of these names are shown of ``/sys``, where they are there.
SYSTEM = (
    "devices/system",
    "fs/cgroup/memory",
    "fs/cgroup/pids",
    "fs/cgroup/cpuacct",
)
#: Entries in a folder of the image that is made anew instead of shown.
FEW = 16
HIDDEN = READ_ONLY | NO_SUID | NO_DEVICES | NO_EXEC


def build_tree() -> None:
    """Make the tree, and make it all that this process sees.

    Raises:
        OSError: the kernel refused.
    """
    mount(b"none", b"/", None, RECURSIVE | PRIVATE)
    options = b"size=1m,nr_inodes=1024,mode=755"
    mount(b"tmpfs", PLACE.encode(), b"tmpfs", NO_SUID | NO_DEVICES, options)
    below = mount_points()
    for name in posix.listdir("/"):
        if name not in OWN:
            show_image(name, below)
    make_devices()
    show_system(below)
    make(f"{PLACE}/tmp", 0o755)
    make(f"{PLACE}/proc", 0o555)
    # A program's own /proc may be mounted only where a complete one is seen already.
    mount(b"/proc", f"{PLACE}/proc".encode(), None, BIND)
    flags = REMOUNT | BIND | READ_ONLY | NO_SUID | NO_DEVICES
    mount(b"none", PLACE.encode(), None, flags)
    posix.chdir(PLACE)
    demand("pivot_root", b".", b".")
    demand("umount2", b".", DETACH)
    posix.chdir("/")
    if is_there(ACCOUNT.encode()):
        # Written for each program in turn, and read by it alone; the next does not see when.
        flags = NO_SUID | NO_DEVICES | NO_EXEC | NO_TIMES
        mount(b"tmpfs", ACCOUNT.encode(), b"tmpfs", flags, b"size=16384,nr_inodes=8,mode=755")


def mount_points() -> "list[str]":
    """Where something is mounted."""
    fd = posix.open("/proc/self/mountinfo", posix.O_RDONLY | posix.O_CLOEXEC)
    text = b""
    while part := posix.read(fd, 1 << 16):
        text += part
    posix.close(fd)
    return [line.split()[4].decode() for line in text.splitlines()]


def make(path: str, mode: int) -> None:
    """Make a folder with exactly this mode."""
    posix.mkdir(path)
    posix.chmod(path, mode)


def show_image(name: str, mounts: "list[str]") -> None:
    """Have an entry of the image's root in the tree: as a link, a folder, or shown read-only."""
    source, target = f"/{name}", f"{PLACE}/{name}"
    stat = posix.lstat(source)
    kind = stat.st_mode & 0o170000
    if kind == 0o120000:
        posix.symlink(posix.readlink(source), target)
    elif kind == 0o040000:
        inner = [point for point in mounts if point.startswith(source + "/")]
        folders = only_folders(source)
        if folders is not None and not inner:
            make(target, stat.st_mode & 0o7777)
            for folder in folders:
                make(f"{target}/{folder}", 0o755)
            return
        posix.mkdir(target)
        flags = READ_ONLY | NO_SUID | NO_DEVICES
        bind(source.encode(), target.encode(), flags, RECURSIVE if inner else 0)
        for point in inner:
            mount(b"none", (PLACE + point).encode(), None, REMOUNT | BIND | flags)


def only_folders(path: str) -> "list[str] | None":
    """What is in a folder when that is a few empty folders or it is closed; None otherwise."""
    try:
        entries = list(posix.scandir(path))
        if len(entries) > FEW or not all(e.is_dir(follow_symlinks=False) for e in entries):
            return None
        if any(posix.listdir(entry.path) for entry in entries):
            return None
    except PermissionError:
        return []
    return [entry.name for entry in entries]


def make_devices() -> None:
    """The devices that hold and hand out nothing, and the links to a process's own descriptors."""
    dev = f"{PLACE}/dev"
    make(dev, 0o755)
    for name in DEVICES:
        posix.close(posix.open(f"{dev}/{name}", posix.O_WRONLY | posix.O_CREAT | posix.O_CLOEXEC))
        mount(f"/dev/{name}".encode(), f"{dev}/{name}".encode(), None, BIND)
    for name, target in (("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")):
        posix.symlink("/proc/self/fd" + target, f"{dev}/{name}")
    posix.symlink("pts/ptmx", f"{dev}/ptmx")
    make(f"{dev}/pts", 0o755)
    make(f"{dev}/shm", 0o755)
    make(f"{dev}/mqueue", 0o755)


def show_system(mounts: "list[str]") -> None:
    """Show of ``/sys`` the processors, and the limits of the lane."""
    make(f"{PLACE}/sys", 0o755)
    for name in SYSTEM:
        show_below_sys(name)
    if "/sys/fs/cgroup/memory" not in mounts:
        show_below_sys("fs/cgroup")


def show_below_sys(name: str) -> None:
    """Show a folder of ``/sys`` read-only, where it is there."""
    if not is_there(f"/sys/{name}".encode()):
        return
    target = f"{PLACE}/sys"
    for part in name.split("/"):
        target += "/" + part
        try:
            posix.mkdir(target)
        except FileExistsError:
            continue
    bind(f"/sys/{name}".encode(), target.encode(), HIDDEN)


def covers(hidden: "list[bytes]") -> "list[tuple[bytes, bytes]]":
    """Those paths of ``/proc`` that there are, each with what of the tree it is covered by."""
    found = []
    for path in existing(hidden):
        folder = posix.stat(path).st_mode & 0o170000 == 0o040000
        found.append((path, b"/dev/mqueue" if folder else b"/dev/null"))
    return found


def existing(paths: "list[bytes]") -> "list[bytes]":
    """Those paths that there are on this kernel."""
    return [path for path in paths if is_there(path)]


def is_there(path: bytes) -> bool:
    """Whether a path exists."""
    try:
        posix.stat(path)
    except OSError:
        return False
    return True


def processes_to_show(
    covered: "list[tuple[bytes, bytes]]", read_only: "list[bytes]"
) -> "list[Call]":
    """The calls that make a program's own ``/proc``.

    They have to be made by a process of its pid namespace: which one is shown is that of the
    caller, not that of its children.

    Args:
        covered: paths to hide, each with what of the tree.
        read_only: paths to make read-only.
    """
    call = look_up("mount")
    flags = NO_SUID | NO_DEVICES | NO_EXEC
    calls: list[Call] = [(call, (b"proc", b"/proc", b"proc", flags, None))]
    calls += [(call, (cover, path, None, BIND, None)) for path, cover in covered]
    for path in read_only:
        calls.append((call, (path, path, None, BIND, None)))
        calls.append((call, (None, path, None, REMOUNT | BIND | HIDDEN, None)))
    return calls


def make_private(setup: "dict[str, Any]", uid: int) -> "tuple[int, int]":
    """What of the tree is a program's own: ``/tmp``, ``/dev/shm``, terminals; not yet ``/proc``.

    Returns:
        descriptors of the file systems it can fill.

    Raises:
        OSError: the kernel refused.
    """
    owner = b",uid=%d,gid=%d" % (uid, uid)
    mount(b"tmpfs", b"/tmp", b"tmpfs", NO_SUID | NO_DEVICES, setup["tmp"] + owner)
    mount(b"tmpfs", b"/dev/shm", b"tmpfs", NO_SUID | NO_DEVICES | NO_EXEC, setup["shm"] + owner)
    mount(b"devpts", b"/dev/pts", b"devpts", NO_SUID | NO_EXEC, setup["pts"])
    posix.mkdir(WORK, 0o755)
    posix.chown(WORK, uid, uid)
    flags = posix.O_PATH | posix.O_CLOEXEC
    return posix.open("/tmp", flags), posix.open("/dev/shm", flags)

"""The name of a sandbox's user: many programs ask for it, and its number is no other sandbox's.

The image's ``/etc/passwd`` and ``/etc/group`` are links to where every sandbox has a small file
system of its own. An image without them has no names.
"""

import posix

from crucible.executor.jail.kernel import write_all

#: Where the links lead; ``images.cleaning`` makes them.
ACCOUNT = "/run/account"


def account_of(uid: int, gid: int) -> "tuple[bytes, bytes]":
    """What the two files say; as many bytes for every user of a lane."""
    passwd = (
        "root:x:0:0:root:/root:/bin/sh\n"
        "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
        f"sandbox:x:{uid}:{gid}:sandbox:/tmp/work:/bin/sh\n"
    )
    group = f"root:x:0:\nnogroup:x:65534:\nsandbox:x:{gid}:\n"
    return passwd.encode(), group.encode()


def open_account() -> "tuple[int, int]":
    """Make the files."""
    flags = posix.O_WRONLY | posix.O_CREAT | posix.O_CLOEXEC
    return (
        posix.open(f"{ACCOUNT}/passwd", flags, 0o444),
        posix.open(f"{ACCOUNT}/group", flags, 0o444),
    )


def write_account() -> None:
    """Write who the user of this sandbox is."""
    files = open_account()
    for fd, text in zip(files, account_of(posix.getuid(), posix.getgid()), strict=True):
        write_all(fd, text)
        posix.close(fd)

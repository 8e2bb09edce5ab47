"""The name of a sandbox's user: many programs ask for it, and its number is no other sandbox's.

The image's ``/etc/passwd`` and ``/etc/group`` are links to where every sandbox has a small file
system of its own. An image without them has no names.
"""

import posix

from crucible.executor.jail.kernel import write_all

#: Where the links lead; ``images.cleaning`` makes them.
ACCOUNT = "/run/account"


def write_account() -> None:
    """Write who the user of this sandbox is."""
    uid, gid = posix.getuid(), posix.getgid()
    passwd = (
        "root:x:0:0:root:/root:/bin/sh\n"
        "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
        f"sandbox:x:{uid}:{gid}:sandbox:/tmp/work:/bin/sh\n"
    )
    group = f"root:x:0:\nnogroup:x:65534:\nsandbox:x:{gid}:\n"
    for name, text in (("passwd", passwd), ("group", group)):
        flags = posix.O_WRONLY | posix.O_CREAT | posix.O_CLOEXEC
        fd = posix.open(f"{ACCOUNT}/{name}", flags, 0o444)
        write_all(fd, text.encode())
        posix.close(fd)

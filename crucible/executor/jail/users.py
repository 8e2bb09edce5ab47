"""What is whose in a shared sandbox: processes, and files where every program may write."""

import posix


class Usage:
    """What a user's processes have and took; zombies count as the kernel's limit counts them."""

    def __init__(self) -> None:
        self.alive = 0
        self.processes = 0
        self.cpu_s = 0.0
        self.resident_bytes = 0


def usage_by_user(uids: "set[int]") -> "dict[int, Usage]":
    """The usage of each of some users, in one walk over all processes."""
    found = {uid: Usage() for uid in uids}
    for name in posix.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            uid = posix.stat(f"/proc/{name}").st_uid
            if uid not in found:
                continue
            fd = posix.open(f"/proc/{name}/stat", posix.O_RDONLY | posix.O_CLOEXEC)
        except OSError:
            continue
        try:
            stat = posix.read(fd, 4096)
        except OSError:
            continue
        finally:
            posix.close(fd)
        add_process(found[uid], stat[stat.rindex(b")") + 2 :].split())
    return found


def add_process(usage: Usage, fields: "list[bytes]") -> None:
    """Count a process in, by what follows its name in /proc/PID/stat."""
    usage.processes += 1
    if fields[0] not in (b"Z", b"X"):
        usage.alive += 1
        usage.cpu_s += sum(map(int, fields[11:15])) / posix.sysconf("SC_CLK_TCK")
        usage.resident_bytes += int(fields[21]) * posix.sysconf("SC_PAGE_SIZE")


def has_processes(uid: int) -> bool:
    """Whether any process, zombie or not, is of a user: one call, and true where it is refused."""
    try:
        posix.getpriority(posix.PRIO_USER, uid)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


class PublicFolder:
    """A folder where every program may write, empty but for what process 1 put there before."""

    def __init__(self, path: str) -> None:
        self.path = path
        before = posix.stat(path).st_size
        probe = path + "/probe"
        posix.close(posix.open(probe, posix.O_WRONLY | posix.O_CREAT | posix.O_CLOEXEC))
        grown = posix.stat(path).st_size
        posix.unlink(probe)
        # On tmpfs the size of a folder counts its entries; one that does not tell is always read.
        self.size = before if grown != before == posix.stat(path).st_size else -1

    def may_hold_more(self) -> bool:
        """Whether any program's file may be in it; exact on tmpfs."""
        return self.size < 0 or posix.stat(self.path).st_size != self.size

    def entries_of(self, uid: int) -> "list[str]":
        """Paths of what a user owns in it."""
        entries = posix.scandir(self.path)
        return [entry.path for entry in entries if entry.stat(follow_symlinks=False).st_uid == uid]


def disk_usage(path: str) -> int:
    """Bytes of the files below a folder, as far as this user may look."""
    total = 0
    try:
        for entry in posix.scandir(path):
            if entry.is_dir(follow_symlinks=False):
                total += disk_usage(entry.path)
            else:
                total += entry.stat(follow_symlinks=False).st_blocks * 512
    except OSError:
        return total
    return total


def remove_tree(path: str) -> "tuple[int, bool]":
    """Remove a folder and what is in it, as far as this user may; its bytes, whether it is gone."""
    total = 0
    try:
        for entry in posix.scandir(path):
            if entry.is_dir(follow_symlinks=False):
                total += remove_tree(entry.path)[0]
            else:
                total += entry.stat(follow_symlinks=False).st_blocks * 512
                posix.unlink(entry.path)
        posix.rmdir(path)
    except OSError:
        return total, False
    return total, True

"""What is whose in a shared sandbox: processes, and files where every program may write."""

import posix


class Usage:
    """What a user's processes have and took.

    Zombies and threads count among the processes, as they do for the kernel's limit.
    """

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
            if uid in found:
                add_process(found[uid], name, stat_fields(f"/proc/{name}/stat"))
        except OSError:
            continue  # it has ended meanwhile
    return found


def add_process(usage: Usage, pid: str, fields: "list[bytes]") -> None:
    """Count a process in, by what follows its name in /proc/PID/stat."""
    usage.cpu_s += sum(map(int, fields[11:15])) / posix.sysconf("SC_CLK_TCK")
    pages, threads = int(fields[21]), int(fields[17])
    usage.processes += max(1, threads)
    if fields[0] in (b"Z", b"X"):
        if threads < 2:
            return
        # Its first thread has ended and others go on: it looks like a zombie and is none.
        pages = pages_of_threads(pid)
    usage.alive += 1
    usage.resident_bytes += pages * posix.sysconf("SC_PAGE_SIZE")


def pages_of_threads(pid: str) -> int:
    """Resident pages of a process as its living threads see them: the same memory for each."""
    pages = 0
    try:
        for thread in posix.listdir(f"/proc/{pid}/task"):
            pages = max(pages, int(stat_fields(f"/proc/{pid}/task/{thread}/stat")[21]))
    except OSError:
        return pages
    return pages


def stat_fields(path: str) -> "list[bytes]":
    """The fields of a stat file after the name, which may hold anything, parentheses too."""
    fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        stat = posix.read(fd, 4096)
    finally:
        posix.close(fd)
    return stat[stat.rindex(b")") + 2 :].split()


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
        return [entry.path for entry in posix.scandir(self.path) if owner_of(entry) == uid]


def owner_of(entry: "posix.DirEntry[str]") -> int:
    """Whose an entry of a folder is; -1 when a program that still runs has just removed it."""
    try:
        return entry.stat(follow_symlinks=False).st_uid
    except FileNotFoundError:
        return -1


def disk_usage(path: str) -> int:
    """Bytes of the files below a folder, as far as this user may look."""
    total = 0
    folders = [path]
    while folders:
        try:
            for entry in posix.scandir(folders.pop()):
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                else:
                    total += entry.stat(follow_symlinks=False).st_blocks * 512
        except OSError:
            continue
    return total


def remove_tree(path: str) -> "tuple[int, bool]":
    """Remove a folder and what is in it, as far as this user may; its bytes, whether it is gone.

    Folders further down are moved up before they are emptied: however deep they lie, no path gets
    too long and nothing recurs. They get names that the program cannot have used.
    """
    total = moved = 0
    key = posix.urandom(8).hex()
    folders = [path]
    try:
        let_in(path)
        while folders:
            here = folders[-1]
            inner, used_bytes = empty_folder(here)
            total += used_bytes
            for there in inner:
                let_in(there)
                moved += 1
                up = f"{path}/{key}-{moved}" if here != path else there
                if up != there:
                    posix.rename(there, up)
                folders.append(up)
            if not inner:
                posix.rmdir(folders.pop())
    except OSError:
        return total, False
    return total, True


def empty_folder(path: str) -> "tuple[list[str], int]":
    """Remove the files of a folder; the folders in it, and the bytes removed."""
    total, inner = 0, []
    for entry in posix.scandir(path):
        if entry.is_dir(follow_symlinks=False):
            inner.append(entry.path)
        else:
            total += entry.stat(follow_symlinks=False).st_blocks * 512
            posix.unlink(entry.path)
    return inner, total


def let_in(path: str) -> None:
    """As the owner of a folder, who may have locked it, gain the right to change what is in it."""
    user = posix.geteuid()
    if user and posix.stat(path, follow_symlinks=False).st_uid == user:
        posix.chmod(path, 0o700)

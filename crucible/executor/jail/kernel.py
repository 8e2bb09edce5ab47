"""What process 1 asks of the kernel: files, counters of the cgroup, signals to everybody else."""

import _ctypes

# ``signal`` itself would pull in ``enum``, which takes longer to import than all the rest.
import _signal  # type: ignore[import-not-found]  # typeshed has no stub for the built-in module
import errno
import marshal
import posix
import sys

WORK = "/tmp/work"  # noqa: S108 - inside the sandbox, where nobody else is
CGROUP = "/sys/fs/cgroup"
PR_SET_DUMPABLE = 4
RTLD_NOW = 2


def set_dumpable(value: int) -> None:
    """Open or close /proc/self to processes of the same user."""
    call_libc("prctl", PR_SET_DUMPABLE, value, 0, 0, 0)


#: Functions of the C library by name, looked up before a fork rather than after it.
_functions: "dict[str, int]" = {}


def look_up(name: str) -> int:
    """Where a function of the C library lies."""
    if name not in _functions:
        _functions[name] = _ctypes.dlsym(_ctypes.dlopen("libc.so.6", RTLD_NOW), name)
    return _functions[name]


def call_libc(name: str, *arguments: "int | bytes") -> None:
    """Call a function of the C library that takes numbers or reads memory; cheaper than ctypes."""
    _ctypes.call_function(look_up(name), arguments)


def own_code() -> bytes:
    """This script as this interpreter compiled it; nothing when it was started from that."""
    frame = sys._getframe()  # noqa: SLF001 - the documented way to one's own frame
    while frame.f_back is not None and frame.f_code.co_name != "<module>":
        frame = frame.f_back
    return b"" if frame.f_globals["PRECOMPILED"] else marshal.dumps(frame.f_code)


def write_all(fd: int, data: "bytes | bytearray") -> None:
    """Write everything, however long the host takes to read it."""
    view = memoryview(data)
    while view:
        view = view[posix.write(fd, view) :]


def read_exactly(fd: int, size: int) -> bytes:
    """Read ``size`` bytes, or fewer when the host has hung up."""
    return bytes(read_into(fd, size))


def read_into(fd: int, size: int) -> bytearray:
    """The same into one buffer: what is read may be most of the memory there is."""
    data = bytearray(size)
    view = memoryview(data)
    done = 0
    while done < size and (count := posix.readv(fd, [view[done:]])):
        done += count
    view.release()
    del data[done:]
    return data


def read_number(*paths: str) -> int | None:
    """The first number in the first of ``paths`` that can be read, or None."""
    for path in paths:
        fields = read_fields(path)
        if fields and fields[0].isdigit():
            return int(fields[0])
    return None


def read_counter(name: str, *paths: str) -> int | None:
    """The number after ``name`` in the first of ``paths`` that has it, or None."""
    for path in paths:
        fields = read_fields(path)
        if name in fields:
            return int(fields[fields.index(name) + 1])
    return None


#: Descriptors of files of the cgroup by their paths, -1 of one that is not there: they are read
#: again and again, and no program has them.
_counters: "dict[str, int]" = {}


def read_fields(path: str) -> list[str]:
    """The words of a small file of the cgroup; none when it is not there."""
    fd = _counters.get(path)
    try:
        if fd is None:
            _counters[path] = -1
            fd = _counters[path] = posix.open(CGROUP + path, posix.O_RDONLY | posix.O_CLOEXEC)
        return posix.pread(fd, 4096, 0).decode().split()
    except OSError:
        return []


def oom_kills() -> int:
    """Processes of the sandbox that the kernel has killed for memory."""
    return read_counter("oom_kill", "/memory/memory.oom_control", "/memory.events") or 0


def refused_forks() -> int:
    """Processes that the kernel has refused the sandbox."""
    return read_counter("max", "/pids/pids.events", "/pids.events") or 0


def highest_memory() -> int:
    """Most bytes of memory the sandbox ever had; 0 where the kernel does not say."""
    return read_number("/memory/memory.max_usage_in_bytes", "/memory.peak") or 0


def memory_in_use() -> int:
    """Bytes of memory the sandbox has now, cache included; 0 where no cgroup is visible."""
    return read_number("/memory/memory.usage_in_bytes", "/memory.current") or 0


def pids_in_use() -> int:
    """Processes and threads in the sandbox now; 0 where no cgroup is visible."""
    return read_number("/pids/pids.current", "/pids.current") or 0


def cpu_time() -> float:
    """CPU seconds of everything in the sandbox: cgroup v1, cgroup v2, or else the sum of /proc."""
    nanoseconds = read_number("/cpuacct/cpuacct.usage")
    if nanoseconds is not None:
        return nanoseconds / 1e9
    microseconds = read_counter("usage_usec", "/cpu.stat")
    if microseconds is not None:
        return microseconds / 1e6
    return processes_cpu_time()


def processes_cpu_time() -> float:
    """CPU seconds of living processes and of those they reaped, where no cgroup is visible."""
    ticks = 0
    for name in posix.listdir("/proc"):
        if name.isdigit():
            try:
                fd = posix.open(f"/proc/{name}/stat", posix.O_RDONLY | posix.O_CLOEXEC)
            except OSError:
                continue
            try:
                stat = posix.read(fd, 4096)
            except OSError:
                continue
            finally:
                posix.close(fd)
            ticks += sum(map(int, stat[stat.rindex(b")") + 2 :].split()[11:15]))
    return ticks / posix.sysconf("SC_CLK_TCK")


def others_alive() -> bool:
    """Whether any process but this one is in the sandbox, zombies included."""
    try:
        posix.kill(-1, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def kill_others() -> None:
    """Kill every other process. One call is enough: a fork under way fails on the signal."""
    try:
        posix.kill(-1, _signal.SIGKILL)
    except OSError as error:
        if error.errno not in (errno.ESRCH, errno.EPERM):
            raise


def is_full(path: str) -> bool:
    """Whether a file system has neither a block or an inode left."""
    try:
        stat = posix.statvfs(path)
    except OSError:
        return False
    return stat.f_bavail == 0 or stat.f_favail == 0


def make_folder(path: str, mode: int = 0o777) -> None:
    """Make a folder unless it is there."""
    try:
        posix.mkdir(path, mode)
    except FileExistsError:
        return


def drain(fd: int) -> None:
    """Empty the wake-up pipe."""
    try:
        while len(posix.read(fd, 4096)) == 4096:
            pass
    except BlockingIOError:
        pass


def open_regular(name: str, folder: str = WORK) -> "tuple[int, posix.stat_result]":
    """Open a regular file below the working directory, following no link; descriptor and status.

    Raises:
        OSError: it is not there, is none, or cannot be read.
    """
    flags = posix.O_RDONLY | posix.O_NOFOLLOW | posix.O_NONBLOCK | posix.O_CLOEXEC
    *folders, last = name.split("/")
    here = posix.open(folder, flags | posix.O_DIRECTORY)
    try:
        for folder in folders:
            there = posix.open(folder, flags | posix.O_DIRECTORY, dir_fd=here)
            posix.close(here)
            here = there
        fd = posix.open(last, flags, dir_fd=here)
    finally:
        posix.close(here)
    stat = posix.fstat(fd)
    if stat.st_mode & 0o170000 != 0o100000:
        posix.close(fd)
        raise OSError(errno.ENXIO, "no regular file")
    return fd, stat


def reason_of(error: OSError) -> bytes:
    """Why a file cannot be handed back, in one word."""
    if error.errno == errno.ENOENT:
        return b"missing"
    # A link, something else in a folder's place, a socket, a device.
    if error.errno in (errno.ELOOP, errno.ENOTDIR, errno.ENXIO):
        return b"not_a_file"
    return b"unreadable"

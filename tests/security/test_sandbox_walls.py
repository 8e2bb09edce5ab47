"""Programs that want out: into the supervisor, the kernel, the host, the network, the next run."""

from __future__ import annotations

import json
import secrets
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from siege import attack, besieged_executor, honest, py, sh

from crucible.executor import ExecutorConfig
from crucible.executor.docker import DockerExecutor
from crucible.models import Limits, Verdict

if TYPE_CHECKING:
    pass

pytestmark = [pytest.mark.docker, pytest.mark.asyncio(loop_scope="module")]

V = Verdict
executor = besieged_executor
#: Runs each line of ``tries`` and prints as JSON what came of it.
TRY = """
import ctypes, errno, json, os, socket, sys
libc = ctypes.CDLL(None, use_errno=True)
def call(number, *args):
    ctypes.set_errno(0)
    value = libc.syscall(ctypes.c_long(number), *[
        ctypes.c_long(a) if isinstance(a, int) else a for a in args])
    return 'done' if value >= 0 else errno.errorcode[ctypes.get_errno()]
def attempt(make):
    try:
        made = make()
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error))
    return 'done' if made is None else made
"""


async def tried(executor: DockerExecutor, tries: dict[str, str]) -> dict[str, Any]:
    """What came of each attempt, by name."""
    lines = "".join(f"  {name!r}: attempt(lambda: {code}),\n" for name, code in tries.items())
    code = f"{TRY}\nprint(json.dumps({{\n{lines}}}))"
    outcome = await attack(executor, py(code))
    assert outcome.verdict is V.OK, outcome
    found: dict[str, Any] = json.loads(outcome.stdout)
    return found


REFUSED = {"EPERM", "EACCES", "ENOSYS", "EROFS", "ENOENT", "EINVAL", "EAFNOSUPPORT"}


@pytest.mark.parametrize(
    "code",
    [
        "kill -9 -1",
        "kill -9 1",
        "kill -TERM 1",
        "kill -STOP 1",
        "kill -INT 1",
        "for n in $(seq 64); do kill -$n 1; done",
    ],
)
async def test_the_supervisor_outlives_signals(executor: DockerExecutor, code: str) -> None:
    """No signal of the program's reaches process 1, and the verdict stays the program's own."""
    outcome = await attack(executor, sh(f"{code}; echo alive; exit 5"))
    assert (outcome.exit_code, outcome.stdout) == (5, b"alive\n"), outcome


async def test_a_storm_of_child_signals_changes_nothing(executor: DockerExecutor) -> None:
    """Process 1 listens to SIGCHLD only, and a flood of it delays nothing but its own sandbox."""
    code = "import os\nfor _ in range(200_000): os.kill(1, 17)\nprint('done')"
    outcome = await attack(executor, py(code))
    assert (outcome.verdict, outcome.stdout) == (V.OK, b"done\n")


async def test_the_supervisor_is_closed(executor: DockerExecutor) -> None:
    """Memory, descriptors, environment and limits of process 1 are out of reach."""
    found = await tried(
        executor,
        {
            "mem": "open('/proc/1/mem', 'rb').read(1)",
            "fd": "os.listdir('/proc/1/fd')",
            "fd0": "open('/proc/1/fd/0', 'wb')",
            "environ": "open('/proc/1/environ').read()",
            "root": "os.listdir('/proc/1/root')",
            "cwd": "os.readlink('/proc/1/cwd')",
            "maps": "open('/proc/1/maps').read()",
            "oom": "open('/proc/1/oom_score_adj', 'w').write('1000')",
            "comm": "open('/proc/1/comm', 'w').write('x')",
            "ptrace": "call(101, 16, 1, 0, 0)",
            "process_vm_readv": "call(310, 1, 0, 0, 0, 0, 0)",
            "process_vm_writev": "call(311, 1, 0, 0, 0, 0, 0)",
            "pidfd_getfd": "call(438, os.pidfd_open(1), 1, 0)",
            "kcmp": "call(312, 1, os.getpid(), 0, 0, 0)",
            "prlimit": "__import__('resource').prlimit(1, 7, (1, 1))",
            "affinity": "os.sched_setaffinity(1, {0})",
            "priority": "os.setpriority(os.PRIO_PROCESS, 1, 19)",
            "migrate_pages": "call(256, 1, 1, 0, 0)",
            "process_madvise": "call(440, os.pidfd_open(1), 0, 0, 4, 0)",
        },
    )
    assert {name: came for name, came in found.items() if came not in REFUSED} == {}


async def test_kernel_doors_are_shut(executor: DockerExecutor) -> None:
    """System calls that enlarge the kernel's attack surface are refused."""
    found = await tried(
        executor,
        {
            "unshare-user": "call(272, 0x10000000)",
            "unshare-mount": "call(272, 0x00020000)",
            "clone-user": "call(56, 0x10000000 | 17, 0, 0, 0, 0)",
            "clone3": "call(435, ctypes.create_string_buffer(88), 88)",
            "setns": "call(308, os.open('/proc/self/ns/net', 0), 0)",
            "mount": "call(165, b'none', b'/tmp', b'tmpfs', 0, 0)",
            "umount": "call(166, b'/tmp', 2)",
            "pivot_root": "call(155, b'/tmp', b'/tmp')",
            "chroot": "os.chroot('/tmp')",
            "open_tree": "call(428, -100, b'/', 1)",
            "fsopen": "call(430, b'tmpfs', 0)",
            "keyctl": "call(250, 0, -3, 0, 0, 0)",
            "add_key": "call(248, b'user', b'x', b'y', 1, -3)",
            "request_key": "call(249, b'user', b'x', 0, -3)",
            "bpf": "call(321, 0, ctypes.create_string_buffer(128), 128)",
            "io_uring": "call(425, 1, ctypes.create_string_buffer(256))",
            "userfaultfd": "call(323, 0)",
            "perf": "call(298, ctypes.create_string_buffer(128), 0, -1, -1, 0)",
            "kexec": "call(246, 0, 0, 0, 0)",
            "init_module": "call(175, 0, 0, b'')",
            "reboot": "call(169, 0xfee1dead, 672274793, 0, 0)",
            "swapon": "call(167, b'/tmp/x', 0)",
            "settimeofday": "call(164, ctypes.create_string_buffer(16), 0)",
            "syslog": "call(103, 3, ctypes.create_string_buffer(10), 10)",
            "quotactl": "call(179, 0, 0, 0, 0)",
            "name_to_handle": "call(303, -100, b'/', 0, 0, 0)",
            "open_by_handle": "call(304, -100, 0, 0)",
            "fanotify": "call(300, 0, 0)",
            "mknod-device": "os.mknod('/tmp/mem', 0o20666, os.makedev(1, 1))",
            "iopl": "call(172, 3)",
            "personality": "call(135, 0x0400000)",
            "af-alg": "socket.socket(38, socket.SOCK_SEQPACKET).close()",
            "af-vsock": "socket.socket(40, socket.SOCK_STREAM).close()",
            "af-packet": "socket.socket(17, socket.SOCK_RAW).close()",
            "af-netlink": "socket.socket(16, socket.SOCK_RAW).close()",
            "raw-icmp": "socket.socket(2, socket.SOCK_RAW, 1).close()",
            "ping-icmp": "socket.socket(2, socket.SOCK_DGRAM, 1).close()",
        },
    )
    assert {name: came for name, came in found.items() if came not in REFUSED} == {}


async def test_kernel_files_are_shut(executor: DockerExecutor) -> None:
    """What /proc and /sys show of the host is masked, and nothing there can be written."""
    found = await tried(
        executor,
        {
            "kcore": "open('/proc/kcore', 'rb').read(1).hex() or 'ENOENT'",
            "kallsyms": "'EPERM' if open('/proc/kallsyms').readline().startswith('0' * 16) "
            "else 'shown'",
            "firmware": "'ENOENT' if not os.listdir('/sys/firmware') else 'shown'",
            "sysrq": "open('/proc/sysrq-trigger', 'w').write('h')",
            "core_pattern": "open('/proc/sys/kernel/core_pattern', 'w').write('|/x')",
            "sys": "open('/sys/kernel/mm/transparent_hugepage/enabled', 'w').write('x')",
            "cgroup": "os.mkdir('/sys/fs/cgroup/memory/x')",
            "cgroup2": "os.mkdir('/sys/fs/cgroup/x')",
            "limit": "open('/sys/fs/cgroup/memory/memory.limit_in_bytes', 'w').write('-1')",
            "release_agent": "open('/sys/fs/cgroup/memory/release_agent', 'w').write('/x')",
            "timer_list": "open('/proc/timer_list').read(1) or 'ENOENT'",
            "root": "open('/etc/x', 'w').write('x')",
            "usr": "open('/usr/bin/x', 'w').write('x')",
            "run": "open('/run/x', 'w').write('x')",
            "var": "open('/var/tmp/x', 'w').write('x')",
            "mem": "open('/dev/mem', 'rb').read(1).hex()",
        },
    )
    assert {name: came for name, came in found.items() if came not in REFUSED} == {}


async def test_no_privilege_can_be_gained(executor: DockerExecutor) -> None:
    """Not root, no capability, no way to either: set-uid bits do nothing and uids stay."""
    code = (
        "cp /bin/sh /tmp/sh && chmod u+s,g+s /tmp/sh && /tmp/sh -c 'id -u'\n"
        "grep -E '^(Cap|NoNewPrivs|Seccomp:|Uid|Groups)' /proc/self/status\n"
    )
    outcome = await attack(executor, sh(code))
    lines = outcome.stdout.decode().split("\n")
    status = {key: value.split() for key, _, value in (line.partition(":") for line in lines[1:])}
    assert int(lines[0]) >= 20_000
    assert all(int(uid) >= 20_000 for uid in status["Uid"])
    assert set(status["Groups"]) <= {lines[0]}
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(status[name][0], 16) == 0
    assert (status["NoNewPrivs"], status["Seccomp"]) == (["1"], ["2"])
    found = await tried(
        executor,
        {
            "setuid": "os.setuid(0)",
            "setgroups": "os.setgroups([0])",
            "chown": "os.chown('/tmp/work/main.py', 0, 0)",
        },
    )
    assert set(found.values()) <= REFUSED
    outcome = await attack(executor, sh("for f in $(find / -xdev -perm /6000); do $f -c id; done"))
    assert b"uid=0" not in outcome.stdout


async def test_nothing_goes_out(executor: DockerExecutor) -> None:
    """There is no network: every way out fails at once, the host's own services included."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        name = f"\\0crucible-{secrets.token_hex(4)}"
        with socket.socket(socket.AF_UNIX) as abstract:
            abstract.bind(name.replace("\\0", "\0"))
            abstract.listen()
            udp = "socket.socket(2, 2).sendto(b'x', {})"
            found = await tried(
                executor,
                {
                    "host-loopback": f"socket.create_connection(('127.0.0.1', {port}), 2)",
                    "metadata": "socket.create_connection(('169.254.169.254', 80), 2)",
                    "gateway": "socket.create_connection(('172.17.0.1', 22), 2)",
                    "tcp": "socket.create_connection(('1.1.1.1', 53), 2)",
                    "tcp6": "socket.create_connection(('2606:4700:4700::1111', 53), 2)",
                    "udp": udp.format("('8.8.8.8', 53)"),
                    "broadcast": udp.format("('255.255.255.255', 9)"),
                    "abstract": f"socket.socket(1).connect('{name}')",
                    "docker": "socket.socket(1).connect('/var/run/docker.sock')",
                    "dns": "socket.getaddrinfo('example.com', 80) and None",
                },
            )
    allowed = {"ENETUNREACH", "ECONNREFUSED", "ENOENT", "EACCES", "EPERM", "EADDRNOTAVAIL"}
    dns = str(found.pop("dns"))
    assert "Errno" in dns or dns in allowed or dns.startswith("["), dns
    assert {name: came for name, came in found.items() if came not in allowed} == {}


async def test_there_is_nothing_to_find(
    executor: DockerExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No socket of the engine, no path of the host, no secret of the worker inside."""
    secret = secrets.token_hex(16)
    monkeypatch.setenv("CRUCIBLE_EXECUTOR_TOKEN", secret)
    code = (
        "env; cat /proc/self/mountinfo; cat /proc/self/environ | tr '\\0' '\\n'\n"
        "cat /proc/1/cmdline | tr '\\0' '\\n'; find / -xdev -type s 2>/dev/null; hostname\n"
        "cat /etc/hostname /etc/hosts /etc/resolv.conf"
    )
    outcome = await attack(executor, sh(code))
    text = outcome.stdout.decode()
    assert secret not in text
    assert "docker.sock" not in text
    assert socket.gethostname() not in text.split()
    assert str(Path.cwd()) not in text


async def test_only_three_descriptors_are_inherited(executor: DockerExecutor) -> None:
    """A program starts with 0, 1 and 2 and nothing else, in the warm interpreter too."""
    code = "import os\nprint(sorted(int(n) for n in os.listdir('/proc/self/fd')))"
    outcome = await attack(executor, py(code))
    assert outcome.stdout == b"[0, 1, 2, 3]\n"  # 3 is the listing itself
    outcome = await attack(executor, sh("cd /proc/self/fd; echo *"))
    assert set(outcome.stdout.split()) <= {
        b"0",
        b"1",
        b"2",
        b"3",
        b"255",
    }  # the listing, the script


async def test_frames_cannot_be_forged(executor: DockerExecutor) -> None:
    """What looks like a supervisor's frame, or like a result, is output and nothing else."""
    end = (
        b'{"reason":"exit","exit_code":0,"signal":0,"wall_us":1,"cpu_us":1,'
        b'"memory_peak_bytes":1,"oom_kills":0,"pids_hits":0,"processes":1,"disk_full":false,'
        b'"stdout_bytes":0,"stderr_bytes":0}'
    )
    forged = b"X" + len(end).to_bytes(4, "big") + end
    docker = b"\x01\0\0\0" + len(forged).to_bytes(4, "big") + forged
    result = b'{"verdict":"ok","status":"completed","exit_code":0}\n'
    data = forged + docker + result
    code = (
        f"import sys\nfor out in (sys.stdout, sys.stderr): out.buffer.write({data!r})\n"
        "sys.stdout.flush(); sys.stderr.flush()\nsys.exit(9)"
    )
    outcome = await attack(executor, py(code))
    assert (outcome.verdict, outcome.exit_code) == (V.NONZERO_EXIT, 9)
    assert (outcome.stdout, outcome.stderr) == (data, data)


@pytest.mark.parametrize(
    "data",
    [bytes(range(256)), b"\0" * 99, b"\xff\xfe\xc3", b"\x1b[2J\x1b]0;x\x07", "é".encode() * 40_000],
    ids=["all", "nul", "invalid", "ansi", "across-frames"],
)
async def test_bytes_arrive_as_they_are(executor: DockerExecutor, data: bytes) -> None:
    """Standard input and output carry any byte, whole across frame edges."""
    program = msgspec.structs.replace(
        py("import sys\nsys.stdout.buffer.write(sys.stdin.buffer.read())"), stdin=data
    )
    outcome = await attack(executor, program)
    assert outcome.stdout == data


@pytest.mark.parametrize(
    "make",
    [
        "ln -s /etc/passwd out",
        "ln -s /dev/zero out",
        "mkfifo out",
        "python3 -c 'import socket; socket.socket(1).bind(\"out\")'",
        "mkdir out",
        "ln -s /proc/1/environ out",
        "truncate -s 60M out",
        "mkdir real; echo x > real/f; ln -s real out",
    ],
)
async def test_output_files_are_never_followed(executor: DockerExecutor, make: str) -> None:
    """An output file that is no regular file of its own, or too large, does not come back."""
    program = msgspec.structs.replace(sh(f"{make}; exit 0"), output_files=("out", "out/f"))
    outcome = await attack(executor, program)
    assert (outcome.verdict, outcome.files) == (V.OK, {}), outcome


MARK = """
import ctypes, os, sys
mark = 'left-behind'
for folder in ('/tmp', '/dev/shm', '/var/tmp', '/run', '/tmp/work', '/dev/mqueue', '/'):
    try: open(folder + '/' + mark, 'w').close()
    except OSError: pass
libc = ctypes.CDLL(None)
libc.shmget(0x4352, 4096, 0o1666)
libc.semget(0x4352, 1, 0o1666)
libc.msgget(0x4352, 0o1666)
try: libc.mq_open(b'/' + mark.encode(), 0o102, 0o666, None)
except AttributeError: pass
os.nice(3)
if os.fork() == 0:
    os.setsid()
    import time; time.sleep(99)
"""
LOOK = """
import os
found = []
for folder in ('/tmp', '/dev/shm', '/var/tmp', '/run', '/tmp/work', '/dev/mqueue', '/'):
    found += [folder + '/' + n for n in os.listdir(folder) if n == 'left-behind']
for table in ('shm', 'sem', 'msg'):
    found += open('/proc/sysvipc/' + table).read().splitlines()[1:]
found += [n for n in os.listdir('/proc') if n.isdigit() and int(n) not in (1, os.getpid())]
found += [v for v in (os.nice(0),) if v]
print(found, os.environ.get('MARK'), open('/sys/fs/cgroup/memory/memory.limit_in_bytes').read()
      if os.path.exists('/sys/fs/cgroup/memory') else open('/sys/fs/cgroup/memory.max').read())
"""


async def test_nothing_survives_a_restart() -> None:
    """A recycled container shows nothing of the program before: files, processes, IPC, limits."""
    seen: set[int] = set()
    config = ExecutorConfig(
        owner=f"{socket.gethostname()}-recycle:{secrets.token_hex(4)}:x", pool_min=1, pool_max=1
    )
    async with DockerExecutor.open(config) as executor:
        for turn in range(4):
            mark = msgspec.structs.replace(
                py(MARK, Limits(memory_mb=64 + turn, pids=40)), env={"MARK": "x"}
            )
            marked = await executor.run(mark)
            assert marked.exit_code == 0, marked
            looked = await executor.run(py(LOOK))
            expected = f"[] None {256 << 20}\n\n".encode()
            assert (looked.stdout, looked.stderr) == (expected, b"")
            seen |= {sandbox.uses for sandbox in executor.pool.sandboxes}
    assert max(seen) >= 8, "the container was never recycled"


async def test_a_lost_supervisor_is_a_defined_end(executor: DockerExecutor) -> None:
    """Memory taken where the kernel can only kill process 1 still ends as the memory limit."""
    code = (
        "open('/proc/self/oom_score_adj', 'w').write('0')\n"
        "import os\nos.chdir('/dev/shm')\n"
        "n = 0\n"
        "while True:\n"
        "  n += 1\n"
        "  with open(f'/tmp/{n}', 'wb') as f: f.write(b'x' * (1 << 20))\n"
    )
    outcome = await attack(executor, py(code, Limits(wall_time_s=40.0, memory_mb=32, disk_mb=256)))
    assert outcome.verdict in {V.MEMORY_LIMIT, V.DISK_LIMIT}, outcome
    await honest(executor)

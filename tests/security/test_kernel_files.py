"""Files of the kernel that a sandbox can write, and terminals that it can take from others."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import msgspec
import pytest
from siege import attack, besieged_executor, py

from crucible.models import Limits, Verdict

if TYPE_CHECKING:
    from crucible.executor.docker import DockerExecutor

pytestmark = [pytest.mark.docker, pytest.mark.asyncio(loop_scope="module")]

executor = besieged_executor

#: Walks what the kernel shows and opens everything for writing; links are left out, and processes
#: but itself and process 1. /dev/null over a masked file is none of the kernel's.
WRITABLE = """
import json, os
null, own, found = os.stat('/dev/null'), f'/proc/{os.getpid()}', set()
for top in ('/proc', '/sys'):
    for folder, folders, files in os.walk(top):
        parts = folder.split('/')
        if top == '/proc' and len(parts) == 3 and parts[2].isdigit():
            if folder not in (own, '/proc/1'): folders.clear(); continue
            folders[:] = [n for n in folders if n not in ('task', 'fd', 'fdinfo', 'map_files')]
        for path in (f'{folder}/{name}' for name in files + folders):
            if os.path.islink(path): continue
            if os.path.isdir(path):
                if os.access(path, os.W_OK): found.add(path)
                continue
            try: fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
            except OSError: continue
            if os.fstat(fd).st_rdev != null.st_rdev:
                # Some of another process open for anybody and refuse to be written.
                try: path.startswith('/proc/1/') and os.write(fd, b'1')
                except OSError: continue
                found.add(path)
            os.close(fd)
print(json.dumps(sorted(path.replace(own, '/proc/self') for path in found)))
"""
#: Each is of the process that writes it: no neighbour and no part of the host is behind one.
ALLOWED = {
    "autogroup",  # nice value of its session's group, worse only
    "clear_refs",
    "comm",
    "coredump_filter",
    "gid_map",  # once, by who has rights in the namespace: nobody here
    "loginuid",  # refused without CAP_AUDIT_CONTROL
    "mem",
    "oom_adj",
    "oom_score_adj",  # worse only
    "projid_map",
    "sched",  # resets its own statistics
    "setgroups",
    "timens_offsets",
    "timerslack_ns",
    "uid_map",
}
SECURITY = {"current", "exec", "fscreate", "keycreate", "sockcreate", "prev"}


async def test_only_files_of_its_own_processes_can_be_written(executor: DockerExecutor) -> None:
    """Below /proc and /sys nothing opens for writing but what concerns the opening process."""
    outcome = await attack(executor, py(WRITABLE))
    allowed = {f"/proc/self/{name}" for name in ALLOWED}
    allowed |= {f"/proc/self/attr/{name}" for name in SECURITY}
    allowed |= {f"/proc/self/attr/{module}/{name}" for module in ("apparmor", "smack")
                for name in SECURITY}  # fmt: skip
    assert set(json.loads(outcome.stdout)) - allowed == set(), outcome


HOG = """
import os, time
held = []
try:
    while True: held.append(os.open('/dev/ptmx', os.O_RDWR | os.O_NOCTTY))
except OSError: pass
kids = 0
for _ in range(40):
    if os.fork() == 0:
        try:
            while True: held.append(os.open('/dev/pts/ptmx', os.O_RDWR | os.O_NOCTTY))
        except OSError: pass
        time.sleep(60)
    kids += 1
print(len(held), flush=True)
time.sleep(5)
"""
HONEST_TERMINAL = """
import os, subprocess
master, slave = os.openpty()
subprocess.run(['sh', '-c', 'tty; stty size < /dev/tty || true'], stdin=slave, stdout=slave)
print(os.read(master, 100))
"""


async def test_terminals_are_each_sandboxs_own(executor: DockerExecutor) -> None:
    """One sandbox that takes all pseudo-terminals it can get leaves every other its own."""
    hogs = [
        asyncio.create_task(executor.run(py(HOG, Limits(wall_time_s=40.0, pids=64))))
        for _ in range(2)
    ]
    for _ in range(3):
        outcome = await executor.run(py(HONEST_TERMINAL))
        assert b"/dev/pts/0" in outcome.stdout, outcome
    for outcome in await asyncio.gather(*hogs):
        assert outcome.verdict is Verdict.OK, outcome
        assert 0 < int(outcome.stdout) <= 32


async def test_time_ends_whatever_triggers_are_set(executor: DockerExecutor) -> None:
    """No trigger on the host's pressure can be set; a wall limit is kept."""
    code = """
import os, time
for name in ('cpu', 'io', 'memory'):
    for path in (f'/proc/pressure/{name}', f'/sys/fs/cgroup/{name}.pressure'):
        try: os.write(os.open(path, os.O_RDWR), b'some 150000 2000000\\0'); print('set', path)
        except OSError: pass
print('none', flush=True)
time.sleep(60)
"""
    outcome = await attack(executor, py(code, Limits(wall_time_s=2.0)))
    assert (outcome.verdict, outcome.stdout) == (Verdict.TIMEOUT, b"none\n"), outcome


async def test_a_fifo_is_the_only_special_file(executor: DockerExecutor) -> None:
    """Of what mknod makes, programs may make FIFOs."""
    code = """
import os, socket, stat
def tried(kind, device=0):
    try: os.mknod('x', kind | 0o600, device)
    except OSError: return 'refused'
    os.unlink('x')
    return 'made'
print(tried(stat.S_IFIFO), tried(stat.S_IFCHR, os.makedev(1, 1)), tried(stat.S_IFBLK, 1),
      tried(stat.S_IFSOCK), tried(stat.S_IFDIR))
"""
    outcome = await attack(executor, py(code))
    assert outcome.stdout == b"made refused refused refused refused\n", outcome


async def test_the_account_is_the_sandboxs_own(executor: DockerExecutor) -> None:
    """The account that a program sees is its own, and changing it changes nobody else's."""
    change = "rm -f /run/account/passwd; echo root::0:0::/:/bin/sh > /run/account/passwd; id -u"
    program = msgspec.structs.replace(py(""), language="bash", code=change)
    outcome = await attack(executor, program)
    assert int(outcome.stdout) >= 20_000
    looked = msgspec.structs.replace(program, code="whoami; id -u root; ls /run/account")
    for _ in range(3):
        outcome = await executor.run(looked)
        assert outcome.stdout == b"sandbox\n0\ngroup\npasswd\n", outcome

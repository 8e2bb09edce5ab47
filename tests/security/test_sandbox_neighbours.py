"""Neighbours of the hostile table: what stands next to its rows and tries the same another way."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import msgspec
import pytest
from siege import SHORT, attack, besieged_executor, c, py

from crucible.models import Limits, Verdict

if TYPE_CHECKING:
    from crucible.executor.docker import DockerExecutor

pytestmark = [pytest.mark.docker, pytest.mark.asyncio(loop_scope="module")]

V = Verdict
executor = besieged_executor


HEADLESS = """
#include <pthread.h>
#include <unistd.h>
static void *go_on(void *unused) { for (;;) %s; }
int main(void) { pthread_t t; pthread_create(&t, 0, go_on, 0); pthread_exit(0); }
"""
ENDLESS = {
    # Nobody holds the pipes any more, and the program lives on.
    "descriptors-closed": (
        py("import os, time\nfor fd in (0, 1, 2): os.close(fd)\ntime.sleep(99)", SHORT),
        {V.TIMEOUT},
    ),
    # The first thread ends, so the process reads as a zombie; another goes on.
    "headless-asleep": (c(HEADLESS % "sleep(1)", SHORT), {V.TIMEOUT}),
    "headless-busy": (c(HEADLESS % "", SHORT), {V.TIMEOUT, V.CPU_LIMIT}),
    # A parent whose vfork child never gives its memory back cannot be interrupted but by SIGKILL.
    "vfork-asleep": (
        c("#include <unistd.h>\nint main(void) { if (vfork() == 0) for (;;) pause(); }", SHORT),
        {V.TIMEOUT},
    ),
    "all-signals-blocked": (
        py(
            "import signal, time\nsignal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))\n"
            "while True: time.sleep(9)",
            SHORT,
        ),
        {V.TIMEOUT},
    ),
}


@pytest.mark.parametrize("name", ENDLESS)
async def test_time_is_kept_however_it_is_spent(executor: DockerExecutor, name: str) -> None:
    """A program that looks ended, or cannot be interrupted, is ended by its limit."""
    program, allowed = ENDLESS[name]
    outcome = await attack(executor, program)
    assert outcome.verdict in allowed, outcome


async def test_a_process_that_is_never_the_same_is_killed(executor: DockerExecutor) -> None:
    """A chain of forks that outlives the program, each link ending at once, is ended too.

    Each link that ended counts for the kernel's limit until process 1 has reaped it. Where that
    gets no processor for some milliseconds the chain meets the limit, as any storm of forks does.
    """
    code = (
        "#include <unistd.h>\n#include <stdio.h>\nint main(void) {\n"
        "  if (fork() == 0) { setsid(); for (;;) if (fork() > 0) _exit(0); }\n"
        '  puts("parent"); return 0; }'
    )
    outcome = await attack(executor, c(code))
    assert outcome.verdict in {V.OK, V.PIDS_LIMIT}, outcome
    assert (outcome.exit_code, outcome.stdout) == (0, b"parent\n"), outcome


async def test_an_orphanage_of_its_own_changes_nothing(executor: DockerExecutor) -> None:
    """A child that adopts the program's orphans and reaps none is killed along with them."""
    code = """
import ctypes, os, time
if os.fork() == 0:
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
    for _ in range(20):
        if os.fork() == 0:
            if os.fork() == 0: time.sleep(99)
            os._exit(0)
    time.sleep(99)
print('parent')
"""
    outcome = await attack(executor, py(code))
    assert (outcome.verdict, outcome.stdout) == (V.OK, b"parent\n"), outcome


async def test_limits_cannot_be_raised(executor: DockerExecutor) -> None:
    """Limits, priorities and the killer's order can be made worse for oneself, never better."""
    code = """
import json, os, resource
def refused(act):
    try: act()
    except (OSError, ValueError): return True
    return False
big = 1 << 40
print(json.dumps({name: refused(act) for name, act in {
    'nofile': lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (1 << 20, 1 << 20)),
    'core': lambda: resource.setrlimit(resource.RLIMIT_CORE, (big, big)),
    'fsize': lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (big, big)),
    'memlock': lambda: resource.setrlimit(resource.RLIMIT_MEMLOCK, (big, big)),
    'nice': lambda: os.setpriority(os.PRIO_PROCESS, 0, -5),
    'fifo': lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(50)),
    'round-robin': lambda: os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1)),
    'oom': lambda: open('/proc/self/oom_score_adj', 'wb', buffering=0).write(b'-1000'),
    'hostname': lambda: __import__('socket').sethostname('x'),
    'drop-caches': lambda: open('/proc/sys/vm/drop_caches', 'w').write('3'),
}.items()}))
"""
    outcome = await attack(executor, py(code))
    found = json.loads(outcome.stdout)
    assert [name for name, refused in found.items() if not refused] == [], outcome


async def test_input_nobody_reads_is_no_trouble(executor: DockerExecutor) -> None:
    """Megabytes of standard input for a program that never reads them delay nothing."""
    program = msgspec.structs.replace(py("print('unread')"), stdin=b"x" * (4 << 20))
    outcome = await attack(executor, program)
    assert (outcome.verdict, outcome.stdout) == (V.OK, b"unread\n"), outcome


async def test_pipes_hold_memory_of_the_sandbox(executor: DockerExecutor) -> None:
    """What lies in widened pipes counts as the program's memory, or is refused."""
    code = """
import fcntl, os
held = 0
while True:
    reading, writing = os.pipe()
    fcntl.fcntl(writing, 1031, 1 << 20)  # F_SETPIPE_SZ
    os.set_blocking(writing, False)
    try:
        while True: held += os.write(writing, bytes(1 << 16))
    except BlockingIOError: pass
"""
    outcome = await attack(executor, py(code, Limits(wall_time_s=40.0, memory_mb=64)))
    assert outcome.verdict in {V.MEMORY_LIMIT, V.NONZERO_EXIT}, outcome


@pytest.mark.parametrize(
    "make",
    [
        "os.symlink('/etc', 'd')",
        "os.symlink('/proc/1', 'd')",
        "os.mkdir('d'); os.chmod('d', 0)",
        "os.mkdir('d'); os.mkfifo('d/passwd')",
        "os.mkdir('d'); os.link('/etc/passwd', 'd/passwd')",
        "os.mkdir('d'); open('d/passwd', 'w').close(); os.chmod('d/passwd', 0)",
    ],
)
async def test_folders_of_output_files_are_never_followed(
    executor: DockerExecutor, make: str
) -> None:
    """An output file below a link, or one that cannot be read, does not come back or hang."""
    program = msgspec.structs.replace(
        py(f"import os\ntry: {make}\nexcept OSError: pass\nprint('made')"),
        output_files=("d/passwd", "d/environ"),
    )
    outcome = await attack(executor, program)
    assert (outcome.verdict, outcome.stdout, outcome.files) == (V.OK, b"made\n", {}), outcome


async def test_the_waiting_interpreter_has_nothing_to_tell(executor: DockerExecutor) -> None:
    """No object of the supervisor in the forked interpreter holds a descriptor that still works."""
    code = """
import gc, json, os
fds = set()
for thing in gc.get_objects():
    for name in ('control', 'frames', 'wakeup'):
        fd = getattr(thing, '__dict__', {}).get(name) if hasattr(thing, '__dict__') else None
        if isinstance(fd, int): fds.add(fd)
def works(fd):
    try: os.fstat(fd)
    except OSError: return False
    return True
print(json.dumps([fd for fd in [*fds, *range(3, 4096)] if works(fd)]))
"""
    outcome = await attack(executor, py(code))
    assert json.loads(outcome.stdout) == [], outcome

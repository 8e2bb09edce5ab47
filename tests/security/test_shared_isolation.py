"""Shared isolation keeps what it promises, and is never given to who did not ask for it."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import aiodocker
import msgspec
import pytest
from siege import LONG, besieged_executor, containers_of
from support.interrupting import cut_short

from crucible.models import Limits, Program, Verdict

if TYPE_CHECKING:
    from crucible.executor.docker import DockerExecutor

pytestmark = [pytest.mark.docker, pytest.mark.asyncio(loop_scope="module")]

V = Verdict
executor = besieged_executor


def py(code: str, limits: Limits = LONG, tenant: str = "a") -> Program:
    return Program(language="python", code=code, limits=limits, isolation="shared", tenant=tenant)


def sh(code: str, limits: Limits = LONG) -> Program:
    return msgspec.structs.replace(py(code, limits), language="bash")


@pytest.mark.parametrize(
    ("language", "code"),
    [
        ("python", "print(6 * 7)"),
        ("javascript", "console.log(6 * 7)"),
        ("bash", "echo $((6 * 7))"),
        ("c", '#include <stdio.h>\nint main(void) { printf("%d\\n", 42); return 0; }'),
    ],
)
async def test_every_language_answers(executor: DockerExecutor, language: str, code: str) -> None:
    """Programs of each language run side by side and say so in their outcome."""
    program = msgspec.structs.replace(py(code), language=language)
    outcomes = await asyncio.gather(*(executor.run(program) for _ in range(4)))
    for outcome in outcomes:
        assert (outcome.verdict, outcome.stdout) == (V.OK, b"42\n"), outcome
        assert outcome.isolation == "shared"


@pytest.mark.parametrize(
    ("code", "limits", "verdicts"),
    [
        ("while True: pass", Limits(wall_time_s=40.0, cpu_time_s=0.5), {V.CPU_LIMIT}),
        ("import time; time.sleep(99)", Limits(wall_time_s=1.0), {V.TIMEOUT}),
        ("x = 'x' * 10**10", LONG, {V.MEMORY_LIMIT}),
        ("import os; os.kill(os.getpid(), 9)", LONG, {V.SIGNALLED}),
        ("import sys; sys.exit(3)", LONG, {V.NONZERO_EXIT}),
        ("while True: print('x' * 999)", Limits(wall_time_s=40, cpu_time_s=40), {V.OUTPUT_LIMIT}),
        ("import os\nwhile True: os.fork()", Limits(wall_time_s=10, cpu_time_s=10, pids=20),
         {V.PIDS_LIMIT, V.CPU_LIMIT, V.TIMEOUT, V.MEMORY_LIMIT}),
    ],
)  # fmt: skip
async def test_limits_are_each_programs_own(
    executor: DockerExecutor, code: str, limits: Limits, verdicts: set[Verdict]
) -> None:
    """A program that meets a limit ends alone; the one beside it is right."""
    beside = asyncio.create_task(executor.run(py("import time; time.sleep(0.3); print('fine')")))
    outcome = await executor.run(py(code, limits))
    assert outcome.verdict in verdicts, outcome
    assert (await beside).stdout == b"fine\n"


async def test_a_refused_fork_is_seen_when_its_processes_end_at_once(
    executor: DockerExecutor,
) -> None:
    """Processes that come and end between two looks are counted before they are reaped."""
    code = """
import os, sys
ours, theirs = os.pipe()
if os.fork() == 0:
    try:
        while os.fork() != 0: pass
    except BlockingIOError: pass
    os._exit(0)
os.close(theirs)
os.read(ours, 1)
sys.exit(1)
"""
    for _ in range(10):
        outcome = await executor.run(py(code, Limits(wall_time_s=10, pids=12)))
        assert outcome.verdict is V.PIDS_LIMIT, outcome


async def test_threads_count_as_processes(executor: DockerExecutor) -> None:
    """A program refused one more thread failed because of the limit of pids."""
    code = """
import threading, time
for number in range(99):
    if number == 8: time.sleep(0.2)
    threading.Thread(target=time.sleep, args=(99,), daemon=True).start()
"""
    outcome = await executor.run(py(code, Limits(wall_time_s=10, pids=10)))
    assert outcome.verdict is V.PIDS_LIMIT, outcome


async def test_programs_cannot_reach_each_other(executor: DockerExecutor) -> None:
    """Another program's processes, folder and memory are closed, and so is process 1."""
    victim = asyncio.create_task(
        executor.run(py("import os, time\nopen('secret', 'w').write('s')\n"
                        "os.chmod('secret', 0o600)\ntime.sleep(3)\nprint('alive')"))
    )  # fmt: skip
    code = """
import json, os, signal, time
time.sleep(0.5)
me, found = os.getuid(), []
for name in os.listdir('/proc'):
    if name.isdigit() and os.stat('/proc/' + name).st_uid != me:
        for act in (lambda: os.kill(int(name), 9), lambda: os.listdir(f'/proc/{name}/fd'),
                    lambda: open(f'/proc/{name}/mem', 'rb').read(1),
                    lambda: open(f'/proc/{name}/environ').read()):
            try: act(); found.append(name)
            except OSError: pass
for number in range(1, 500):
    for act in (lambda: os.listdir(f'/tmp/slots/{number}'),
                lambda: open(f'/tmp/slots/{number}/secret').read()):
        if f'/tmp/slots/{number}' == os.getcwd(): continue
        try: act(); found.append(number)
        except OSError: pass
for call in ((os.setuid, 0), (os.setgid, 0), (os.setgroups, [0]), (os.setuid, me + 1)):
    try: call[0](call[1]); found.append(call[0].__name__)
    except OSError: pass
try: os.kill(-1, 9)
except ProcessLookupError: pass
print(json.dumps(found))
"""
    outcome = await executor.run(py(code))
    assert json.loads(outcome.stdout) == [], outcome
    assert (await victim).stdout == b"alive\n"


async def test_nothing_is_left_for_the_next(executor: DockerExecutor) -> None:
    """Processes, files and folders of a program are gone when its outcome is there."""
    code = """
import os, time
for path in ('/tmp/left', '/dev/shm/left', 'left'): open(path, 'w').close()
os.makedirs('/tmp/deep/er'); os.makedirs('mine/own', 0o700); open('mine/own/f', 'w').close()
os.chmod('mine', 0); os.symlink('/etc/passwd', '/tmp/link')
if os.fork() == 0:
    os.setsid(); time.sleep(99)
"""
    assert (await executor.run(py(code))).exit_code == 0
    look = "ls -A /tmp /dev/shm; grep -l '^Name:.python3' /proc/[0-9]*/status | wc -l"
    outcome = await executor.run(sh(look))
    assert outcome.stdout == b"/dev/shm:\n\n/tmp:\nslots\n1\n", outcome


#: Folders of runs that are still there, and whether process 1 is the one it was.
SLOTS_LEFT = """
import os
slots = [f'/tmp/slots/{number}' for number in range(1, 500)]
print([slot for slot in slots if os.path.lexists(slot) and slot != os.getcwd()])
"""
STUBBORN_FOLDERS = {
    "locked": "os.makedirs('a/b'); open('a/b/f', 'w').close(); os.chmod('a/b', 0)\n"
    "os.chmod('a', 0)",
    "deep": "for _ in range(3000): os.mkdir('d'); os.chdir('d')",
    "deep-in-tmp": "os.mkdir('/tmp/d'); os.chdir('/tmp/d')\n"
    "for _ in range(3000): os.mkdir('d'); os.chdir('d')",
    "same-names": "for n in range(40): os.makedirs(f'moved-{n}/moved-{n}/{n}')",
    "odd-names": "for n in (b'\\xff', b'a\\nb', b'-rf', b'x' * 255):\n"
    "  os.makedirs(n + b'/' + n); open(n + b'/f', 'w').close()",
    "read-only": "os.mkdir('r'); open('r/f', 'w').close(); os.chmod('r', 0o500)",
    "closed-home": "os.mkdir('/tmp/h'); open('/tmp/h/f', 'w').close(); os.chmod('/tmp/h', 0o100)",
}


@pytest.mark.parametrize("name", STUBBORN_FOLDERS)
async def test_stubborn_folders_go_too(executor: DockerExecutor, name: str) -> None:
    """Folders too deep for a path, or locked by their owner, are removed and hurt nobody."""
    before = set((await executor.run(sh("readlink /proc/self/ns/pid"))).stdout.split())
    outcome = await executor.run(py("import os\n" + STUBBORN_FOLDERS[name] + "\nprint('made')"))
    assert outcome.stdout == b"made\n", outcome
    left = await executor.run(py(SLOTS_LEFT))
    assert left.stdout == b"[]\n", left
    look = await executor.run(sh("ls -A /tmp /dev/shm; readlink /proc/self/ns/pid"))
    *listed, space = look.stdout.split()
    assert listed == [b"/dev/shm:", b"/tmp:", b"slots"]
    assert {space} == before, "the sandbox was lost over it"


async def test_files_that_come_and_go_hurt_nobody(executor: DockerExecutor) -> None:
    """Programs that make and remove files in /tmp all the time can do so beside ones that end."""
    churn = """
import os, time
until = time.monotonic() + 4
while time.monotonic() < until:
    names = [f'/tmp/{os.getpid()}-{n}' for n in range(200)]
    for name in names: os.close(os.open(name, os.O_CREAT | os.O_WRONLY))
    for name in names: os.unlink(name)
print('fine')
"""
    beside = [asyncio.create_task(executor.run(py(churn))) for _ in range(2)]
    ended = 0
    while not all(task.done() for task in beside):
        outcome = await executor.run(py("open('/tmp/mine', 'w').close()"))
        assert outcome.verdict is V.OK, outcome
        ended += 1
    assert ended > 1
    assert [(await task).stdout for task in beside] == [b"fine\n"] * 2


#: What a program leaves running under some disguise; each tells by a file once it runs.
DISGUISED = {
    # The first thread of a process ends and another goes on: its state reads "zombie".
    "headless": """
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>
static void *go_on(void *unused) { fclose(fopen("/tmp/up", "w")); for (;;) usleep(1000); }
int main(void) {
  if (fork() == 0) {
    setsid();
    pthread_t thread;
    pthread_create(&thread, 0, go_on, 0);
    pthread_exit(0);
  }
  while (access("/tmp/up", F_OK)) usleep(1000);
  return 0;
}
""",
    # A name that reads like the end of the name and a zombie's state behind it.
    "named": """
#include <stdio.h>
#include <sys/prctl.h>
#include <unistd.h>
int main(void) {
  if (fork() == 0) {
    prctl(PR_SET_NAME, ") Z 1 1 1 1 0");
    fclose(fopen("/tmp/up", "w"));
    for (;;) usleep(1000);
  }
  while (access("/tmp/up", F_OK)) usleep(1000);
  return 0;
}
""",
    # Never the same process twice.
    "runaway": """
#include <stdio.h>
#include <unistd.h>
int main(void) {
  if (fork() == 0) {
    setsid();
    fclose(fopen("/tmp/up", "w"));
    for (;;) if (fork() > 0) _exit(0);
  }
  while (access("/tmp/up", F_OK)) usleep(1000);
  return 0;
}
""",
}


@pytest.mark.parametrize("name", DISGUISED)
async def test_disguised_processes_are_killed(executor: DockerExecutor, name: str) -> None:
    """What a program leaves running is found and killed, whatever it looks like."""
    program = msgspec.structs.replace(py(DISGUISED[name]), language="c")
    outcome = await executor.run(program)
    assert (outcome.verdict, outcome.exit_code) == (V.OK, 0), outcome
    code = (
        "import os, time\nuntil = time.monotonic() + 20\n"
        "def others():\n"
        "  for name in filter(str.isdigit, os.listdir('/proc')):\n"
        "    try:\n"
        "      if os.stat('/proc/' + name).st_uid not in (0, os.getuid()): yield name\n"
        "    except OSError: pass\n"
        # One that was killed takes a moment to die and to be reaped.
        "while (found := list(others())) and time.monotonic() < until: time.sleep(0.01)\n"
        "print(found)"
    )
    assert (await executor.run(py(code))).stdout == b"[]\n"


async def test_a_headless_process_is_accounted_for(executor: DockerExecutor) -> None:
    """Memory taken by a process whose first thread has ended counts as any other."""
    code = """
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
static void *take(void *unused) {
  char *at = mmap(0, 200 << 20, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  memset(at, 1, 200 << 20);
  for (;;) sleep(1);
}
int main(void) {
  pthread_t thread;
  pthread_create(&thread, 0, take, 0);
  pthread_exit(0);
}
"""
    limits = Limits(wall_time_s=40.0, cpu_time_s=40.0, memory_mb=64)
    outcome = await executor.run(msgspec.structs.replace(py(code, limits), language="c"))
    assert outcome.verdict is V.MEMORY_LIMIT, outcome


async def test_a_program_has_no_capability(executor: DockerExecutor) -> None:
    """What process 1 may, the programs may not; and there is no way to shared memory segments."""
    outcome = await executor.run(sh("grep -E '^(Cap[PEIA]|NoNew|Groups)' /proc/self/status; id -u"))
    lines = outcome.stdout.decode().split("\n")
    for line in lines:
        if line.startswith("Cap"):
            assert int(line.split()[1], 16) == 0
    assert "NoNewPrivs:\t1" in lines
    assert int(lines[-2]) >= 40_000
    code = (
        "import ctypes; libc = ctypes.CDLL(None)\n"
        "print(libc.shmget(1, 4096, 0o1666), libc.semget(1, 1, 0o1666), libc.msgget(1, 0o1666))"
    )
    assert (await executor.run(py(code))).stdout == b"-1 -1 -1\n"


async def test_tenants_never_share(executor: DockerExecutor) -> None:
    """Two tenants' programs run in two containers; one that did not ask runs in neither."""
    code = "import os; print(os.readlink('/proc/self/ns/pid'))"
    programs = (py(code), py(code, tenant="b"), py(code))
    seen = [(await executor.run(program)).stdout for program in programs]
    plain = msgspec.structs.replace(py(code), isolation="container")
    outcome = await executor.run(plain)
    assert seen[0] == seen[2]
    assert outcome.isolation == "container"
    assert len({seen[0], seen[1], outcome.stdout}) == 3


async def test_a_cancelled_program_is_killed(executor: DockerExecutor) -> None:
    """Cancelling one program kills it and leaves those beside it alone."""
    code = "import os, time\nprint(os.getpid(), flush=True)\ntime.sleep(60)"
    slow = asyncio.create_task(cut_short(executor, py(code, Limits(wall_time_s=60))))
    beside = asyncio.create_task(executor.run(py("import time; time.sleep(1); print('fine')")))
    await asyncio.sleep(0.5)
    slow.cancel()
    outcome = await slow
    assert (outcome.verdict, outcome.isolation) == (V.CANCELLED, "shared")
    assert outcome.stdout.strip().isdigit()
    assert outcome.run_s > 0
    assert (await beside).stdout == b"fine\n"
    look = "grep -l '^Name:.python3' /proc/[0-9]*/status | wc -l"
    assert (await executor.run(sh(look))).stdout == b"1\n"


async def test_a_lost_container_is_replaced(executor: DockerExecutor) -> None:
    """When the container is killed from outside, the next program gets another."""
    await executor.run(py("print(1)"))
    owner = executor.config.owner
    async with aiodocker.Docker() as docker:
        for key in await containers_of(owner):
            container = docker.containers.container(key)
            shown = await container.show()
            if shown["HostConfig"]["CapAdd"] and shown["State"]["Running"]:
                await container.kill()
    assert (await executor.run(py("print(2)"))).stdout == b"2\n"

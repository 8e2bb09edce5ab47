"""Programs that take all they can get: time, processes, memory, output, disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from siege import SHORT, attack, besieged_executor, c, js, py, sh

from crucible.models import Limits, Outcome, Verdict

if TYPE_CHECKING:
    from crucible.executor.docker import DockerExecutor

pytestmark = [pytest.mark.docker, pytest.mark.asyncio(loop_scope="module")]

V = Verdict
executor = besieged_executor
#: Wall limits that no verdict below depends on are generous: the machine may be busy.
SMALL = Limits(wall_time_s=40.0, cpu_time_s=40.0, memory_mb=64, disk_mb=64)
KIB = 1024

IGNORE_ALL = """
import signal
for number in range(1, 65):
    try: signal.signal(number, lambda *_: None)
    except (OSError, ValueError): pass
while True: pass
"""
TIME = {
    "busy": (py("while True: pass", SHORT), {V.TIMEOUT, V.CPU_LIMIT}),
    "busy-javascript": (js("for (;;);", SHORT), {V.TIMEOUT, V.CPU_LIMIT}),
    "busy-c": (c("int main(void) { for (;;); }", SHORT), {V.TIMEOUT, V.CPU_LIMIT}),
    "sleep": (py("import time; time.sleep(1e6)", SHORT), {V.TIMEOUT}),
    "ignore-signals-busy": (py(IGNORE_ALL, SHORT), {V.TIMEOUT, V.CPU_LIMIT}),
    "ignore-signals-asleep": (
        py(IGNORE_ALL.replace("while True: pass", "while True: signal.pause()"), SHORT),
        {V.TIMEOUT},
    ),
    "stop-own-group": (sh("kill -STOP 0", SHORT), {V.TIMEOUT}),
    "stop-everything": (sh("kill -STOP -1; kill -STOP $$", SHORT), {V.TIMEOUT}),
    "alarm-goes-on": (
        py(
            "import signal,time\nsignal.signal(14, lambda *_: signal.alarm(1))\n"
            "signal.alarm(1)\nwhile True: time.sleep(9)",
            SHORT,
        ),
        {V.TIMEOUT},
    ),
    "many-busy-children": (
        py(
            "import os\nfor _ in range(40):\n  if os.fork() == 0:\n    while True: pass\nos.wait()",
            Limits(wall_time_s=40.0, cpu_time_s=1.0),
        ),
        {V.CPU_LIMIT},
    ),
    "compiler-loops": (
        c(
            "#define A(x) x x\n#define B(x) A(A(A(A(x))))\n#define C(x) B(B(B(B(x))))\n"
            "int main(void) { C(C(C(;))) }",
            SHORT,
        ),
        {V.TIMEOUT, V.CPU_LIMIT, V.MEMORY_LIMIT},
    ),
}


@pytest.mark.parametrize("name", TIME)
async def test_time_is_kept(executor: DockerExecutor, name: str) -> None:
    """A program that would run for ever is ended by its wall or CPU limit."""
    program, allowed = TIME[name]
    outcome = await attack(executor, program)
    assert outcome.verdict in allowed, outcome


BOMB = Limits(wall_time_s=3.0, cpu_time_s=3.0, pids=32)
PROCESSES = {
    # The first of them stays: what one leaves behind is killed before it has to meet the limit.
    "shell-bomb": (sh(":(){ :|:& };:; sleep 9", BOMB), {V.PIDS_LIMIT, V.TIMEOUT}),
    "fork-loop": (py("import os\nwhile True: os.fork()", BOMB), {V.PIDS_LIMIT, V.TIMEOUT}),
    "fork-loop-stubborn": (
        py("import os\nwhile True:\n  try: os.fork()\n  except OSError: pass", BOMB),
        {V.PIDS_LIMIT, V.TIMEOUT, V.CPU_LIMIT},
    ),
    "threads": (
        py(
            "import threading, time\nwhile True: "
            "threading.Thread(target=time.sleep, args=(99,), daemon=True).start()",
            BOMB,
        ),
        {V.PIDS_LIMIT},
    ),
    "vfork-storm": (
        c(
            "#include <unistd.h>\nint main(void) { for (;;) if (vfork() == 0) "
            '{ execl("/bin/sleep", "sleep", "99", (char *)0); _exit(1); } }',
            BOMB,
        ),
        {V.PIDS_LIMIT, V.TIMEOUT, V.CPU_LIMIT},
    ),
    "node-workers": (
        js(
            "const w = require('worker_threads');for (;;) new w.Worker('for(;;);', {eval: true})",
            Limits(wall_time_s=4.0, cpu_time_s=4.0, pids=32),
        ),
        {V.PIDS_LIMIT, V.TIMEOUT, V.CPU_LIMIT, V.MEMORY_LIMIT},
    ),
}


@pytest.mark.parametrize("name", PROCESSES)
async def test_processes_are_counted(executor: DockerExecutor, name: str) -> None:
    """A program that multiplies meets its pids limit, and the host does not notice."""
    program, allowed = PROCESSES[name]
    outcome = await attack(executor, program)
    assert outcome.verdict in allowed, outcome


async def test_zombies_are_reaped(executor: DockerExecutor) -> None:
    """Ten thousand orphans that nobody waits for do not use up the pids limit."""
    code = (
        "import os, time\n"
        "for _ in range(100):\n"
        "  if os.fork() == 0:\n"
        "    for _ in range(100):\n"
        "      while True:\n"
        "        try: pid = os.fork()\n"
        "        except OSError: time.sleep(0.001); continue\n"
        "        break\n"
        "      if pid == 0: os._exit(0)\n"
        "      time.sleep(0)\n"
        "      os.waitpid(-1, os.WNOHANG)\n"
        "    os._exit(0)\n"
        "  os.wait()\n"
        "print('done')\n"
    )
    outcome = await attack(executor, py(code, Limits(wall_time_s=60.0, cpu_time_s=60.0, pids=500)))
    assert (outcome.stdout, outcome.exit_code) == (b"done\n", 0), outcome


async def test_daemons_end_with_their_parent(executor: DockerExecutor) -> None:
    """A double-forked daemon in a session of its own is killed, and the parent is judged."""
    code = (
        "import os, time\n"
        "if os.fork() == 0:\n"
        "  os.setsid()\n"
        "  if os.fork() == 0:\n"
        "    time.sleep(0.4); open('/tmp/late', 'w').write('x'); print('late', flush=True)\n"
        "    time.sleep(99)\n"
        "  os._exit(0)\n"
        "os.wait()\n"
        "print('parent')\n"
    )
    outcome = await attack(executor, py(code, Limits(wall_time_s=60.0)))
    assert (outcome.verdict, outcome.stdout) == (V.OK, b"parent\n")


SHM_FILL = (
    "data = b'x' * (1 << 20)\n"
    "with open('/dev/shm/fill', 'wb', buffering=0) as f:\n"
    "  while True: assert f.write(data) == len(data), 'short'\n"
)
SYSV = """
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/shm.h>
int main(void) {
  for (;;) {
    int id = shmget(IPC_PRIVATE, 8 << 20, IPC_CREAT | 0600);
    if (id < 0) return 3;
    void *at = shmat(id, 0, 0);
    if (at == (void *)-1) return 4;
    memset(at, 1, 8 << 20);
  }
}
"""
MEMORY = {
    "one-string": (py("'x' * 10**10", SMALL), {V.MEMORY_LIMIT}),
    "step-by-step": (
        py(
            "import time\nkept = []\nwhile True:\n  kept.append(bytearray(b'x' * (1 << 20)))\n"
            "  time.sleep(0.01)",
            SMALL,
        ),
        {V.MEMORY_LIMIT},
    ),
    "many-children": (
        py(
            "import os, time\nfor _ in range(8):\n  if os.fork() == 0:\n"
            "    kept = bytearray(b'x' * (20 << 20)); time.sleep(3); os._exit(0)\n"
            "for _ in range(8): os.wait()",
            SMALL,
        ),
        {V.MEMORY_LIMIT},
    ),
    "javascript": (
        js(
            "const kept = []; for (;;) kept.push(Buffer.alloc(1 << 20, 1))",
            Limits(wall_time_s=40.0, memory_mb=128),
        ),
        {V.MEMORY_LIMIT},
    ),
    "javascript-heap": (
        js(
            "const kept = []; for (;;) kept.push({a: [kept.length]})",
            Limits(wall_time_s=60.0, cpu_time_s=60.0, memory_mb=128),
        ),
        {V.MEMORY_LIMIT},
    ),
    "shm": (py(SHM_FILL, SMALL), {V.DISK_LIMIT, V.MEMORY_LIMIT}),
    "memfd": (
        py(
            "import os\nfd = os.memfd_create('x')\nwhile True: os.write(fd, b'x' * (1 << 20))",
            SMALL,
        ),
        {V.DISK_LIMIT, V.MEMORY_LIMIT},
    ),
    "sysv-shm": (c(SYSV, SMALL), {V.MEMORY_LIMIT}),
    "disk-and-heap": (
        py("open('/tmp/a', 'wb').write(b'x' * (40 << 20))\nkept = b'y' * (40 << 20)", SMALL),
        {V.MEMORY_LIMIT},
    ),
    "oom-score-lowered": (
        py("open('/proc/self/oom_score_adj', 'w').write('0')\n'x' * 10**10", SMALL),
        {V.MEMORY_LIMIT},
    ),
    "mapped": (
        c(
            "#include <sys/mman.h>\n#include <string.h>\nint main(void) { for (;;) {"
            "char *p = mmap(0, 1 << 24, 3, MAP_SHARED | MAP_ANONYMOUS, -1, 0);"
            "if (p == MAP_FAILED) return 3; memset(p, 1, 1 << 24); } }",
            SMALL,
        ),
        {V.MEMORY_LIMIT},
    ),
}


@pytest.mark.parametrize("name", MEMORY)
async def test_memory_is_kept(executor: DockerExecutor, name: str) -> None:
    """However memory is taken, the limit says so and the host keeps its own."""
    program, allowed = MEMORY[name]
    outcome = await attack(executor, program)
    assert outcome.verdict in allowed, outcome


DISK = {
    "one-file": (
        py(
            "f = open('fill', 'wb', buffering=0)\nwhile True: f.write(b'x' * (1 << 20)) or 1 / 0",
            Limits(wall_time_s=40.0, disk_mb=8),
        ),
        {V.DISK_LIMIT},
    ),
    "empty-files": (
        py(
            "for n in range(1_000_000): open(f'{n}', 'w').close()",
            Limits(wall_time_s=60.0, cpu_time_s=60.0, disk_mb=8),
        ),
        {V.DISK_LIMIT},
    ),
    "shell-fill": (
        sh("set -e; head -c 100M /dev/zero > fill", Limits(wall_time_s=40.0, disk_mb=8)),
        {V.DISK_LIMIT},
    ),
}


@pytest.mark.parametrize("name", DISK)
async def test_disk_is_kept(executor: DockerExecutor, name: str) -> None:
    """A program that fills its disk, with bytes or with names, is told apart from a failing one."""
    program, allowed = DISK[name]
    outcome = await attack(executor, program)
    assert outcome.verdict in allowed, outcome


async def test_deep_folders_are_gone_afterwards(executor: DockerExecutor) -> None:
    """A thousand nested folders hurt nobody: the file system goes with the sandbox."""
    code = "import os\nfor n in range(1000):\n  os.mkdir('d'); os.chdir('d')\nprint('deep')"
    outcome = await attack(executor, py(code, Limits(wall_time_s=40.0)))
    assert outcome.stdout == b"deep\n", outcome


FLOOD = Limits(wall_time_s=4.0, cpu_time_s=4.0, output_kb=64)
OUTPUT = {
    "stdout": py("while True: print('x' * 1000)", FLOOD),
    "stderr": py("import sys\nwhile True: print('x' * 1000, file=sys.stderr)", FLOOD),
    "both": py(
        "import sys\nwhile True:\n  print('x' * 99)\n  print('y' * 99, file=sys.stderr)", FLOOD
    ),
    "yes": sh("yes", FLOOD),
    "children": sh("yes & yes >&2 & yes & wait", FLOOD),
    "cat-zero": sh("cat /dev/zero", FLOOD),
}


@pytest.mark.parametrize("name", OUTPUT)
async def test_floods_are_capped(executor: DockerExecutor, name: str) -> None:
    """Output without end is cut at the cap on each descriptor, and memory here stays flat."""
    outcome = await attack(executor, OUTPUT[name])
    assert outcome.verdict in {V.OUTPUT_LIMIT, V.TIMEOUT, V.CPU_LIMIT}, outcome
    assert outcome.output_truncated
    assert max(len(outcome.stdout), len(outcome.stderr)) == 64 * KIB


@pytest.mark.parametrize("extra", [-1, 0, 1])
async def test_the_cap_is_exact(executor: DockerExecutor, extra: int) -> None:
    """One byte below and at the cap nothing is flagged; one above is cut and flagged."""
    size = 64 * KIB + extra
    code = f"import sys\nsys.stdout.write('x' * {size})"
    outcome = await attack(executor, py(code, FLOOD))
    assert len(outcome.stdout) == min(size, 64 * KIB)
    assert outcome.output_truncated is (extra > 0)
    assert outcome.verdict is (V.OUTPUT_LIMIT if extra > 0 else V.OK)
    assert outcome.exit_code == 0


async def _kept(executor: DockerExecutor, code: str, wall_s: float) -> Outcome:
    limits = Limits(wall_time_s=wall_s, cpu_time_s=2.0)
    program = py("import os, time\nprint('kept', flush=True)\n" + code, limits)
    return await attack(executor, program)


@pytest.mark.parametrize(
    ("code", "verdict"),
    [
        ("os.kill(os.getpid(), 11)", V.SIGNALLED),
        ("time.sleep(99)", V.TIMEOUT),
        ("os._exit(7)", V.NONZERO_EXIT),
        ("x = 'x' * 10**10", V.MEMORY_LIMIT),
        ("while True: pass", V.CPU_LIMIT),
    ],
)
async def test_partial_output_is_kept(
    executor: DockerExecutor, code: str, verdict: Verdict
) -> None:
    """What was written before the end arrives on every verdict."""
    outcome = await _kept(executor, code, 2.0 if verdict is V.TIMEOUT else 40.0)
    assert (outcome.stdout, outcome.verdict) == (b"kept\n", verdict), outcome


async def test_five_ends_by_sigkill_are_told_apart(executor: DockerExecutor) -> None:
    """Signal 9 alone proves nothing: a plain kill is not a limit."""
    outcome = await attack(executor, sh("kill -9 $$"))
    assert (outcome.verdict, outcome.signal) == (V.SIGNALLED, 9)


@pytest.mark.parametrize("code", [0, 1, 2, 127, 255])
async def test_exit_codes_arrive(executor: DockerExecutor, code: int) -> None:
    """An exit code is what the program said it is."""
    outcome = await attack(executor, sh(f"exit {code}"))
    assert outcome.exit_code == code
    assert outcome.verdict is (V.NONZERO_EXIT if code else V.OK)


async def test_c_stack_overflow_is_a_signal(executor: DockerExecutor) -> None:
    """Recursion past the C stack is the program's own SIGSEGV."""
    code = "int f(int n) { volatile char a[4096]; a[0] = n; return f(n + 1) + a[0]; }\n"
    outcome = await attack(executor, c(code + "int main(void) { return f(0); }"))
    assert (outcome.verdict, outcome.signal) == (V.SIGNALLED, 11), outcome

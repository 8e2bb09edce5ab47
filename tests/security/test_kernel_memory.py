"""Memory that the kernel spends on a program outside of its memory limit stays bounded."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from siege import attack, besieged_executor, c, honest, py

from crucible.models import Limits, Outcome, Program, Verdict

if TYPE_CHECKING:
    from crucible.executor.docker import DockerExecutor

pytestmark = [pytest.mark.docker, pytest.mark.asyncio(loop_scope="module")]

V = Verdict
executor = besieged_executor
GRANTED_MB = 64
LIMITS = Limits(wall_time_s=20.0, cpu_time_s=20.0, memory_mb=GRANTED_MB)
#: Buffers may fill for as long as process 1 does not get a processor to look; without any bound
#: the attacks below reach 2 GB.
BOUND_MB = GRANTED_MB + 448

HEAD = """
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>
static char b[1 << 20];
static struct sockaddr_in q;
static socklen_t l = sizeof q;
static int bound(int type) {
  int s = socket(AF_INET, type, 0);
  q.sin_family = AF_INET; q.sin_port = 0; q.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (s >= 0) { bind(s, (void *)&q, sizeof q); getsockname(s, (void *)&q, &l); }
  return s;
}
static void flood(void);
int main(void) {
  for (int p = 0; p < 30; p++) if (fork() == 0) { flood(); for (;;) pause(); }
  for (;;) pause();
}
"""
#: Connections that nobody accepted hold what was sent, and no descriptor counts them.
BACKLOG = """
static void flood(void) {
  for (int a; (a = bound(SOCK_STREAM)) >= 0;) {
    listen(a, 4096);
    for (int i = 0; i < 4000; i++) {
      int s = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
      if (connect(s, (void *)&q, sizeof q) < 0 && errno != EINPROGRESS) { close(s); break; }
      while (send(s, b, sizeof b, MSG_NOSIGNAL) > 0);
      AFTER
      close(s);
    }
  }
}
"""
FLOODS = {
    "udp": """
static void flood(void) {
  int big = 4 << 20;
  for (int s; (s = bound(SOCK_DGRAM)) >= 0;) {
    setsockopt(s, SOL_SOCKET, SO_RCVBUF, &big, sizeof big);
    for (int i = 0; i < 60; i++) sendto(s, b, 60000, MSG_DONTWAIT, (void *)&q, sizeof q);
  }
}
""",
    "tcp-backlog": BACKLOG.replace("AFTER", ""),
    # A connection that was reset is in no count of the protocol's, and keeps what it holds.
    "tcp-reset": BACKLOG.replace(
        "AFTER", "struct sockaddr none = {0}; connect(s, &none, sizeof none);"
    ),
    "tcp-pairs": """
static void flood(void) {
  int a = bound(SOCK_STREAM);
  listen(a, 128);
  for (;;) {
    int s = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (s < 0) return;
    connect(s, (void *)&q, sizeof q);
    int d = accept(a, 0, 0);
    while (send(s, b, sizeof b, MSG_NOSIGNAL) > 0);
    while (d >= 0 && send(d, b, sizeof b, MSG_NOSIGNAL | MSG_DONTWAIT) > 0);
  }
}
""",
}


def host_socket_mb() -> int:
    """Memory of all TCP and UDP buffers of this kernel, whosever they are."""
    fields = Path("/proc/net/sockstat").read_text().split()
    pages = [int(fields[at + 1]) for at, word in enumerate(fields) if word == "mem"]
    return sum(pages) * 4096 >> 20


async def peak_socket_mb(executor: DockerExecutor, program: Program) -> tuple[Outcome, int]:
    """Run a program; its outcome, and how far the host's socket memory rose meanwhile."""
    before, peak = host_socket_mb(), 0
    running = asyncio.create_task(attack(executor, program))
    while not running.done():
        peak = max(peak, host_socket_mb() - before)
        await asyncio.wait({running}, timeout=0.005)
    return await running, peak


@pytest.mark.parametrize("name", FLOODS)
async def test_socket_buffers_are_bounded(executor: DockerExecutor, name: str) -> None:
    """Many processes with many sockets each do not fill the host's memory with their buffers."""
    outcome, peak_mb = await peak_socket_mb(executor, c(HEAD + FLOODS[name], LIMITS))
    assert outcome.verdict is V.MEMORY_LIMIT, outcome
    assert peak_mb < BOUND_MB, outcome


async def test_one_process_queues_less_than_its_memory(executor: DockerExecutor) -> None:
    """What one process can queue on all descriptors it may have is less than it was granted."""
    code = """
import socket
listener = socket.create_server(('127.0.0.1', 0), backlog=200)
kept, queued = [], 0
for _ in range(110):
    client = socket.socket()
    for option in (socket.SO_SNDBUF, socket.SO_RCVBUF, 32, 33):
        try: client.setsockopt(socket.SOL_SOCKET, option, 1 << 22)
        except PermissionError: continue
        raise SystemExit(f'option {option} was allowed')
    client.connect(listener.getsockname())
    server, _ = listener.accept()
    for end in (client, server):
        end.setblocking(False)
        try:
            while True: queued += end.send(bytes(1 << 20))
        except BlockingIOError: pass
    kept += [client, server]
print(queued >> 20)
"""
    outcome, peak_mb = await peak_socket_mb(executor, py(code, LIMITS))
    assert outcome.verdict is V.OK, outcome
    assert int(outcome.stdout) < GRANTED_MB
    assert peak_mb < GRANTED_MB


async def test_record_locks_are_bounded(executor: DockerExecutor) -> None:
    """Locks on single bytes of a file, which no control group counts, come to an end."""
    code = """
#include <fcntl.h>
#include <unistd.h>
int main(void) {
  int f = open("f", O_RDWR | O_CREAT, 0600);
  for (long n = 0;; n++) {
    struct flock l = {.l_type = F_RDLCK, .l_whence = 0, .l_start = (1L << 40) - 2 * n, .l_len = 1};
    if (fcntl(f, F_SETLK, &l) < 0) pause();
  }
}
"""
    limits = Limits(wall_time_s=60.0, cpu_time_s=60.0)
    outcome = await attack(executor, c(code, limits))
    assert outcome.verdict is V.MEMORY_LIMIT, outcome
    assert "locks" in str(outcome.message)


COUNTED = {
    # What sits in queues of local sockets, descriptors on their way included.
    "unix-sockets": py(
        "import os, socket\n"
        "while True:\n"
        "  if os.fork() == 0:\n"
        "    kept = []\n"
        "    try:\n"
        "      while True:\n"
        "        a, b = socket.socketpair(); a.setblocking(False); kept.append((a, b))\n"
        "        try:\n"
        "          while True: a.send(bytes(1 << 16))\n"
        "        except BlockingIOError: pass\n"
        "    except OSError: pass\n"
        "    while True: os.wait() if os.fork() else __import__('time').sleep(60)\n",
        LIMITS,
    ),
    "descriptors-in-flight": py(
        "import array, os, socket\n"
        "a, b = socket.socketpair()\n"
        "a.setblocking(False)\n"
        "sent = 0\n"
        "try:\n"
        "  while True:\n"
        "    fd = os.open('/dev/null', 0)\n"
        "    a.sendmsg([b'x'], [(1, 1, array.array('i', [fd]))]); os.close(fd); sent += 1\n"
        "except OSError: pass\n"
        "print(sent < 100_000)",
        LIMITS,
    ),
    "message-queues": c(
        "#include <string.h>\nint msgget(int, int); int msgsnd(int, const void *, long, int);\n"
        "int main(void) { static char m[8200] = {1}; for (;;) { int q = msgget(0, 01600);\n"
        "  if (q < 0) return 0; while (msgsnd(q, m, 8192, 04000) == 0); } }",
        LIMITS,
    ),
    "semaphores": c(
        "int semget(int, int, int); int main(void) { while (semget(0, 32000, 01600) >= 0); }",
        LIMITS,
    ),
    "signals-and-timers": py(
        "import ctypes, os, signal\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))\n"
        "libc, n, timer = ctypes.CDLL(None), 0, ctypes.c_void_p()\n"
        "while libc.sigqueue(os.getpid(), 40, ctypes.c_void_p(0)) == 0: n += 1\n"
        "while libc.timer_create(1, None, ctypes.byref(timer)) == 0: n += 1\n"
        "print(n <= 4096)",
        LIMITS,
    ),
    "watches": py(
        "import ctypes, os\n"
        "libc, fds = ctypes.CDLL(None), []\n"
        "while (fd := libc.inotify_init()) >= 0: fds.append(fd)\n"
        "for n in range(20_000):\n"
        "  if libc.inotify_add_watch(fds[0], f'/proc/self/{n}'.encode(), 2) < 0: break\n"
        "print(len(fds) < 4096)",
        LIMITS,
    ),
}


@pytest.mark.parametrize("name", COUNTED)
async def test_other_kernel_memory_is_counted_or_refused(
    executor: DockerExecutor, name: str
) -> None:
    """What the kernel keeps elsewhere for a program is in its memory limit, or has its own."""
    outcome = await attack(executor, COUNTED[name])
    assert outcome.stdout in {b"", b"True\n"}, outcome
    if outcome.verdict is V.OK:
        return
    assert outcome.verdict in {V.MEMORY_LIMIT, V.PIDS_LIMIT, V.TIMEOUT, V.CPU_LIMIT}, outcome
    assert outcome.usage.memory_peak_kb <= GRANTED_MB * 1024


async def test_filters_cannot_be_loaded(executor: DockerExecutor) -> None:
    """Programs for the kernel's packet filter, whose compiled code nobody counts, are refused."""
    code = """
import ctypes, errno, socket
libc = ctypes.CDLL(None, use_errno=True)
filter = ctypes.create_string_buffer(b'\\x06\\0\\0\\0\\xff\\xff\\0\\0')
program = ctypes.create_string_buffer(16)
where = ctypes.addressof(filter).to_bytes(8, 'little')
ctypes.memmove(program, (1).to_bytes(8, 'little') + where, 16)
def tried(*call):
    ctypes.set_errno(0)
    return 'done' if call[0](*call[1:]) >= 0 else errno.errorcode[ctypes.get_errno()]
one, s = ctypes.c_long, socket.socket(socket.AF_UNIX)
print(tried(libc.syscall, one(317), one(1), one(0), program),
      tried(libc.prctl, 22, one(2), program, 0, 0),
      tried(libc.setsockopt, s.fileno(), 1, 26, program, 16),
      tried(libc.syscall, one(54), one(s.fileno()), one((1 << 32) + 1), one(26), program, one(16)),
      tried(libc.syscall, one(157), one((1 << 32) + 22), one(2), program))
"""
    outcome = await attack(executor, py(code))
    assert outcome.stdout == b"EPERM EPERM EPERM EPERM EPERM\n", outcome
    await honest(executor)

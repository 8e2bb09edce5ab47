"""What is particular to isolation nested: nothing of one program is there for the next."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import aiodocker
import msgspec
import pytest
import pytest_asyncio
from siege import LONG, SHORT, SiegeExecutor, besieged, py, sh
from support.interrupting import cut_short, once_it_speaks
from support.sandboxes import containers_of, processes_of, sleeping

from crucible.executor.nested.lane import Lane
from crucible.executor.sandbox import ProgramLost
from crucible.models import Limits, Program, Verdict

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from crucible.models import Outcome

pytestmark = [pytest.mark.docker, pytest.mark.asyncio(loop_scope="module")]

V = Verdict
#: The first program of a lane has the first of its user ids.
WHO, FIRST = sh("id -u"), b"20000\n"
SECRET = "a-secret-that-only-one-program-has"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def executor() -> AsyncIterator[SiegeExecutor]:
    """Lanes only."""
    async with besieged("nested") as opened:
        yield opened


def lanes_of(executor: SiegeExecutor, tenant: str) -> list[Lane]:
    """The lanes a tenant has now."""
    found = [lane for lane in executor.lanes.lanes if isinstance(lane, Lane)]
    return [lane for lane in found if lane.tenant == tenant]


async def at_rest(executor: SiegeExecutor) -> None:
    """Nothing is being made or stopped, so that no descriptor comes to this process from there."""
    async with asyncio.timeout(60):
        while executor.lanes.counts.preparing + executor.lanes.counts.settling:
            await asyncio.sleep(0.05)


async def in_one_lane(executor: SiegeExecutor, *programs: Program) -> list[Outcome]:
    """Run programs one after the other in one lane: a tenant of its own has no other."""
    tenant = f"tenant-{id(programs)}"
    outcomes = []
    lanes = set()
    for program in programs:
        outcomes.append(await executor.run(msgspec.structs.replace(program, tenant=tenant)))
        lanes |= {lane.container_id for lane in lanes_of(executor, tenant)}
    assert len(lanes) == 1, "they were not in one lane"
    return outcomes


LEAVE = """
import ctypes, os, socket, sys
for folder in ('/tmp', '/dev/shm', '/var/tmp', '/run', '/tmp/work', '/dev/mqueue', '/'):
    try: open(folder + '/left', 'w').close()
    except OSError: pass
libc = ctypes.CDLL(None)
libc.shmget(0x4352, 4096, 0o1666), libc.semget(0x4352, 1, 0o1666), libc.msgget(0x4352, 0o1666)
try: libc.mq_open(b'/left', 0o102, 0o666, None)
except AttributeError: pass
listening = socket.create_server(('127.0.0.1', 4352))
client = socket.create_connection(('127.0.0.1', 4352))
server, _ = listening.accept()
client.sendall(b'x' * 9); server.close(); client.close()
abstract = socket.socket(socket.AF_UNIX); abstract.bind('\\0left'); abstract.listen()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        import time; time.sleep(99)
    os._exit(0)
os.wait()
print(os.getuid())
"""
LOOK = """
import json, os, socket
found = []
for folder in ('/tmp', '/dev/shm', '/var/tmp', '/run', '/tmp/work', '/dev/mqueue', '/'):
    found += [folder + '/' + name for name in os.listdir(folder) if name == 'left']
for table in ('shm', 'sem', 'msg'):
    found += open('/proc/sysvipc/' + table).read().splitlines()[1:]
found += [n for n in os.listdir('/proc') if n.isdigit() and int(n) not in (1, os.getpid())]
found += open('/proc/keys').read().splitlines()
for table in ('tcp', 'tcp6', 'udp'):
    found += open('/proc/net/' + table).read().splitlines()[1:]
# Those without a name are the supervisor's own.
found += [line for line in open('/proc/net/unix').read().splitlines()[1:] if len(line.split()) > 7]
for address in (('127.0.0.1', 4352), '\\0left'):
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    probe = socket.socket(family)
    try: probe.connect(address); found.append(repr(address))
    except OSError: pass
    probe.close()
again = socket.socket(); again.bind(('127.0.0.1', 4352))
print(json.dumps([found, os.getuid()]))
"""


async def test_nothing_is_left_for_the_next(executor: SiegeExecutor) -> None:
    """Files, shared memory, queues, processes, sockets and ports of a program go with it."""
    marked, looked = await in_one_lane(executor, py(LEAVE), py(LOOK))
    assert marked.exit_code == 0, marked
    found, uid = json.loads(looked.stdout)
    assert found == []
    assert uid != int(marked.stdout)


SEARCH = f"""
import gc
# In two halves, since what is looked for would be found in what looks for it.
first, second = {SECRET[:16]!r}.encode(), {SECRET[16:]!r}.encode()
found = []
with open('/proc/self/maps') as maps:
    lines = maps.readlines()
with open('/proc/self/mem', 'rb', 0) as memory:
    for line in lines:
        span, rights = line.split()[:2]
        if 'r' not in rights or '[v' in line: continue
        start, end = (int(part, 16) for part in span.split('-'))
        memory.seek(start)
        try: data = memory.read(end - start)
        except OSError: continue
        at = data.find(first)
        while at >= 0:
            if data.startswith(second, at + len(first)): found.append(line)
            at = data.find(first, at + 1)
print(found, len(gc.get_objects()) > 0)
"""


async def test_the_interpreter_remembers_nobody(executor: SiegeExecutor) -> None:
    """Code, input, arguments and environment of one program are not in the next one's memory."""
    first = msgspec.structs.replace(
        py(f"import sys\nx = '{SECRET}'\nprint(x + sys.stdin.read())"),
        stdin=SECRET.encode() * 100,
        args=(SECRET,),
        env={"SECRET": SECRET},
    )
    told, searched = await in_one_lane(executor, first, py(SEARCH))
    assert SECRET.encode() in told.stdout
    assert searched.stdout == b"[] True\n", searched


async def test_no_user_id_comes_twice_within_a_thousand(executor: SiegeExecutor) -> None:
    """Programs in a row have ids of their own, which the kernel counts their quotas by."""
    await at_rest(executor)
    who, count = py("import os\nprint(os.getuid())"), 1030
    async with besieged("nested", lane_programs=2000, max_uses=2000) as other:
        ids = [outcome.stdout for outcome in await in_one_lane(other, *[who] * count)]
    for at, found in enumerate(ids):
        assert found not in ids[max(0, at - 1000) : at]
    assert len(set(ids)) < count, "they have to come again some time"


EXHAUST = """
import ctypes, os, sys, time
libc = ctypes.CDLL(None)
taken = 0
while taken < 1000 and libc.inotify_init() >= 0: taken += 1
print(taken, flush=True)
time.sleep(float(sys.argv[1]))
"""


def most_descriptors(executor: SiegeExecutor, tenant: str) -> int:
    """Descriptors of that process of a tenant's lanes that has most."""
    counts = [0]
    for pid in processes_of([lane.container_id for lane in lanes_of(executor, tenant)]):
        with contextlib.suppress(OSError):
            counts.append(len(list(Path(f"/proc/{pid}/fd").iterdir())))
    return max(counts)


async def test_quotas_of_a_user_are_each_programs_own(executor: SiegeExecutor) -> None:
    """Who takes all that the kernel gives one user leaves others theirs, beside it and after it."""
    limits = Limits(wall_time_s=60.0, cpu_time_s=40.0)
    first = msgspec.structs.replace(py(EXHAUST, limits), args=("40",), tenant="exhaust")
    holding = asyncio.create_task(cut_short(executor, first))
    async with asyncio.timeout(30):
        while most_descriptors(executor, "exhaust") < 100:
            await asyncio.sleep(0.05)
    beside = await executor.run(msgspec.structs.replace(py(EXHAUST), args=("0",)))
    holding.cancel()
    held = await holding
    after = await in_one_lane(executor, *[msgspec.structs.replace(py(EXHAUST), args=("0",))] * 3)
    taken = {int(outcome.stdout) for outcome in (held, beside, *after)}
    assert len(taken) == 1
    assert taken.pop() > 50


async def test_no_process_outlives_its_program(executor: SiegeExecutor) -> None:
    """Seen from outside, where no namespace hides it, a daemon is gone and its lane serves on."""
    seconds = f"97.{os.getpid()}"
    daemon = sh(f"setsid sh -c 'sleep {seconds} & sleep {seconds} &' >/dev/null 2>&1; echo on")
    outcomes = await in_one_lane(executor, daemon, daemon, sh("echo next"))
    assert [outcome.stdout for outcome in outcomes] == [b"on\n", b"on\n", b"next\n"]
    assert sleeping(seconds) == {}


async def test_nothing_inside_is_root_outside(executor: SiegeExecutor) -> None:
    """No process of a running lane has the host's root id, and the program has no capability."""
    code = "import time\nprint('on', flush=True)\ntime.sleep(60)"
    running = asyncio.create_task(cut_short(executor, py(code, Limits(wall_time_s=60))))
    status: list[dict[str, list[str]]] = []
    async with asyncio.timeout(30):
        while len(status) < 4:
            busy = [lane.container_id for lane in lanes_of(executor, "local")]
            status = [_status(pid) for pid in processes_of(busy)]
            await asyncio.sleep(0.05)
    running.cancel()
    await running
    for process in status:
        assert min(map(int, process["Uid"])) >= 0x70000000
        assert set(process["NoNewPrivs"] + process["Seccomp"]) <= {"1", "2"}
    programs = [process for process in status if len(process["NSpid"]) == 4]
    programs = [process for process in programs if process["NSpid"][-1] != "1"]
    assert programs
    for process in programs:
        for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            assert int(process[name][0], 16) == 0


def _status(pid: str) -> dict[str, list[str]]:
    text = Path(f"/proc/{pid}/status").read_text()
    return {key: value.split() for key, _, value in (x.partition(":") for x in text.splitlines())}


async def test_nothing_outside_can_be_written(executor: SiegeExecutor) -> None:
    """Not one file of /proc and /sys but a process's own, and none of the image, can be opened."""
    code = """
import os
found = []
for top in ('/proc', '/sys', '/etc', '/dev', '/usr/bin'):
    for folder, folders, names in os.walk(top):
        if top == '/proc' and folder == '/proc':
            folders[:] = [name for name in folders if not name.isdigit()
                          and name not in ('self', 'thread-self')]
        for name in names:
            path = os.path.join(folder, name)
            # Hidden files are shown as /dev/null.
            if os.path.islink(path) or os.lstat(path).st_rdev == os.makedev(1, 3): continue
            try: os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
            except OSError: continue
            found.append(path)
print(sorted(found))
"""
    outcome = await executor.run(py(code, Limits(wall_time_s=60, cpu_time_s=60)))
    devices = [f"/dev/{name}" for name in ("full", "pts/ptmx", "random", "urandom", "zero")]
    assert outcome.stdout.decode() == f"{devices}\n", outcome


async def test_the_tree_is_small_and_closed(executor: SiegeExecutor) -> None:
    """What is mounted is read-only or the program's own, and no way leads above the root."""
    code = "cat /proc/self/mountinfo; cd /; ls -d ../../..; ls /proc/1/root 2>&1; ls /dev"
    outcome = await executor.run(sh(code))
    lines = [line.split() for line in outcome.stdout.decode().splitlines()]
    mounts = {line[4]: line[5].split(",") for line in lines if len(line) > 8}
    own = {"/proc", "/tmp", "/dev/shm", "/dev/pts", "/run/account"}
    devices = {f"/dev/{name}" for name in ("full", "null", "random", "urandom", "zero")}
    for point, options in mounts.items():
        if point not in own | devices and not point.startswith("/proc/"):
            assert options[0] == "ro", point
    assert own - {"/run/account"} <= mounts.keys()
    assert len(mounts) < 40


@pytest.mark.parametrize(
    ("code", "limits", "verdict"),
    [
        ("while True: pass", SHORT, None),
        ("'x' * 10**10", LONG, V.MEMORY_LIMIT),
        ("import os; os.kill(os.getpid(), 11)", LONG, V.SIGNALLED),
        ("while True: print('x' * 999)", Limits(wall_time_s=40, cpu_time_s=40), V.OUTPUT_LIMIT),
    ],
)
async def test_a_lane_ends_with_the_first_bad_end(
    executor: SiegeExecutor, code: str, limits: Limits, verdict: Verdict | None
) -> None:
    """After anything but an end of its own, the next program is in a lane started anew."""
    tenant = f"bad-{hash(code)}"
    outcomes = [
        await executor.run(msgspec.structs.replace(program, tenant=tenant))
        for program in (WHO, py(code, limits), WHO)
    ]
    assert verdict is None or outcomes[1].verdict is verdict
    assert (outcomes[0].stdout, outcomes[2].stdout) == (FIRST, FIRST)


async def test_a_lane_ends_after_its_programs(executor: SiegeExecutor) -> None:
    """So many and no more; the next is served by another, and nobody notices."""
    await at_rest(executor)
    async with besieged("nested") as other:
        programs = other.config.lane_programs
        ids = [(await other.run(WHO)).stdout for _ in range(programs + 3)]
    assert [at for at, found in enumerate(ids) if found == FIRST] == [0, programs]


async def test_tenants_never_share(executor: SiegeExecutor) -> None:
    """Two tenants' programs run in two containers, whoever comes in between."""
    code = sh("readlink /proc/self/ns/net")
    seen: dict[str, set[bytes]] = {}
    for tenant in "abab":
        outcome = await executor.run(msgspec.structs.replace(code, tenant=tenant))
        seen.setdefault(tenant, set()).add(outcome.stdout)
    assert not seen["a"] & seen["b"]


async def test_one_tenants_many_do_not_starve_anothers_one(executor: SiegeExecutor) -> None:
    """While two hundred programs of one wait, another's one is run among the first."""
    many = msgspec.structs.replace(py("print(1)"), tenant="many")
    done: list[str] = []

    async def run(program: Program) -> None:
        await executor.run(program)
        done.append(program.tenant)

    tasks = [asyncio.create_task(run(many)) for _ in range(200)]
    await asyncio.sleep(0)
    tasks.append(asyncio.create_task(run(msgspec.structs.replace(many, tenant="one"))))
    await asyncio.gather(*tasks)
    assert done.index("one") < 150


async def test_the_peak_is_the_programs_own(executor: SiegeExecutor) -> None:
    """A small program after a large one does not have the large one's memory."""
    large = py("x = bytearray(b'x' * (100 << 20))")
    small = py("print('small')")
    outcomes = await in_one_lane(executor, small, large, small)
    peaks = [outcome.usage.memory_peak_kb for outcome in outcomes]
    assert peaks[1] > 100_000, peaks
    assert max(peaks[0], peaks[2]) < 40_000, peaks


async def test_what_outlives_a_program_is_not_charged_to_the_next(executor: SiegeExecutor) -> None:
    """Full file systems and shared memory of one leave the next all of its own."""
    limits = Limits(memory_mb=96, disk_mb=64)
    fill = """
import ctypes, sys
open('/tmp/fill', 'wb').write(b'x' * (40 << 20))
libc = ctypes.CDLL(None)
libc.shmat.restype = ctypes.c_void_p
key = libc.shmget(0, 20 << 20, 0o1600)
ctypes.memset(libc.shmat(key, None, 0), 1, 20 << 20)
sys.exit(3)
"""
    take = "x = bytearray(60 << 20); x[::4096] = bytes(len(x[::4096])); print(len(x) >> 20)"
    filled, took = await in_one_lane(executor, py(fill, limits), py(take, limits))
    assert filled.exit_code == 3, filled
    assert took.stdout == b"60\n", took


async def test_less_memory_than_a_lane_has_in_use_is_another_lanes(
    executor: SiegeExecutor,
) -> None:
    """A small program after a large one gets its small limit, in a lane where that can be set."""
    read = (
        "import os, sys\nfor folder, _, names in os.walk('/usr/lib'):\n  for name in names:\n    "
    )
    read += "try: open(os.path.join(folder, name), 'rb').read()\n    except OSError: pass"
    large = Program(language="python", code=read, tenant="fit", limits=Limits(memory_mb=200))
    small = Program(language="python", code="print(1)", tenant="fit", limits=Limits(memory_mb=16))
    for _ in range(2):
        assert (await executor.run(large)).verdict is V.OK
        assert (await executor.run(small)).stdout == b"1\n"


def namespaces_of(pids: list[str]) -> set[str]:
    """Every namespace that processes are in or hold a descriptor of."""
    found = set()
    for pid in pids:
        for folder in ("ns", "fd"):
            with contextlib.suppress(OSError):  # a process of a program may be gone by now
                for entry in Path(f"/proc/{pid}/{folder}").iterdir():
                    with contextlib.suppress(OSError):
                        found.add(str(entry.readlink()))
    kinds = ("user:", "mnt:", "pid:", "ipc:", "uts:", "net:")
    return {name for name in found if name.startswith(kinds)}


async def test_lanes_do_not_grow(executor: SiegeExecutor) -> None:
    """Descriptors, mounts and namespaces of a lane are after fifty programs as after five."""

    async def run(times: int) -> None:
        for outcome in await asyncio.gather(*(executor.run(counted) for _ in range(times))):
            assert outcome.exit_code == 0, outcome

    def started(pid: str) -> int:
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            return sys.maxsize  # it was of a program that has ended
        return int(stat[stat.rindex(")") + 2 :].split()[19])

    def count() -> list[int]:
        ids = [lane.container_id for lane in lanes_of(executor, "grow")]
        # What stays is older than what is there for one program. Numbers start again at some time.
        pids = sorted(processes_of(ids), key=started)[:2]
        return [
            max(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in pids),
            max(len(Path(f"/proc/{pid}/mountinfo").read_text().splitlines()) for pid in pids),
            max(len(namespaces_of(processes_of([key]))) for key in ids),
        ]

    counted = msgspec.structs.replace(py("open('f', 'w').write('x')"), tenant="grow")
    await run(5)
    before = count()
    await run(50)
    after = count()
    async with asyncio.timeout(30):
        # The pipes of the next program are being made or handed on.
        while after[0] > before[0] + 4:
            await asyncio.sleep(0.05)
            after = count()
    assert after[1] <= before[1]
    # Those of one program are being made or taken down.
    assert after[2] <= before[2] + 5


async def test_a_cancelled_program_is_killed(executor: SiegeExecutor) -> None:
    """Cancelling kills it, keeps what it wrote, and takes its lane along."""
    code = "import time\nprint('kept', flush=True)\ntime.sleep(60)"
    program = msgspec.structs.replace(py(code, Limits(wall_time_s=60)), tenant="cut")
    slow = await once_it_speaks(cut_short(executor, program))
    slow.cancel()
    outcome = await slow
    assert (outcome.verdict, outcome.isolation) == (V.CANCELLED, "nested")
    assert outcome.stdout == b"kept\n"


async def test_a_lane_killed_in_the_middle_loses_only_its_program(executor: SiegeExecutor) -> None:
    """The program is told to be lost, not judged; the next gets another lane."""
    program = msgspec.structs.replace(
        py("import time\nprint('on', flush=True)\ntime.sleep(60)", Limits(wall_time_s=60)),
        tenant="lost",
    )
    running = await once_it_speaks(executor.run(program))
    (lane,) = lanes_of(executor, "lost")
    async with aiodocker.Docker() as docker:
        await docker.containers.container(lane.container_id).kill()
    with contextlib.suppress(ProgramLost):
        raise AssertionError(await running)
    after = msgspec.structs.replace(py("print(1)"), tenant="lost")
    assert (await executor.run(after)).stdout == b"1\n"
    async with asyncio.timeout(30):
        while lane.container_id in await containers_of(executor.config.owner):
            await asyncio.sleep(0.05)

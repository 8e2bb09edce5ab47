"""Output files by pattern: what hostile programs leave where files are looked for."""

from __future__ import annotations

import msgspec
import pytest
from siege import LONG, attack, besieged_executor, py, sh

from crucible.executor.docker import DockerExecutor
from crucible.executor.frames import OUTPUT_FILES
from crucible.models import Limits, Outcome, Program, Verdict

pytestmark = [pytest.mark.docker, pytest.mark.asyncio(loop_scope="module")]

V = Verdict
executor = besieged_executor
#: Beside whatever a program makes there is one honest file.
GOOD = "mkdir -p out; echo good > out/good.json; "
HONEST = {"out/good.json": b"good\n"}


async def leave(executor: DockerExecutor, program: Program, *asked: str) -> Outcome:
    """Attack with a program whose output files are asked for; nothing may vanish silently."""
    outcome = await attack(executor, msgspec.structs.replace(program, output_files=asked))
    for name in asked:
        if "*" not in name and "?" not in name:
            assert name in outcome.files or name in outcome.files_omitted
    return outcome


MAKES = {
    "link": ("ln -s /etc/passwd out/x.json", "not_a_file"),
    "link to a device": ("ln -s /dev/zero out/x.json", "not_a_file"),
    "link to a secret": ("ln -s /proc/1/environ out/x.json", "not_a_file"),
    "pipe": ("mkfifo out/x.json", "not_a_file"),
    "socket": (
        "python3 -c 'import socket; socket.socket(1).bind(\"out/x.json\")'",
        "not_a_file",
    ),
    "folder": ("mkdir out/x.json", "not_a_file"),
    "sparse": ("truncate -s 60M out/x.json", "too_large"),
    "closed": ("touch out/x.json; chmod 0 out/x.json", "unreadable"),
}


@pytest.mark.parametrize("name", MAKES)
async def test_what_is_no_file_is_named(executor: DockerExecutor, name: str) -> None:
    """Found by a pattern, it does not come back, and the reason does; others come back."""
    make, reason = MAKES[name]
    outcome = await leave(executor, sh(f"{GOOD}{make}; exit 0"), "out/*.json")
    assert outcome.verdict is V.OK, outcome
    assert (outcome.files, outcome.files_omitted) == (HONEST, {"out/x.json": reason})


#: What the first pattern looks for may be in there too.
CLOSED = {"**/good.json": "unreadable", "there/*": "unreadable"}
FOLDERS = {
    "link": ("ln -s /etc there", {"there/*": "not_a_file"}),
    "circle": ("ln -s . out/there", {"there/*": "missing"}),
    "closed": ("mkdir there; touch there/a; chmod 0 there", CLOSED),
    "file": ("touch there", {"there/*": "not_a_file"}),
    "none": ("true", {"there/*": "missing"}),
    "dots": ("mkdir there; touch there/.a", {"there/*": "missing"}),
}


@pytest.mark.parametrize("name", FOLDERS)
async def test_folders_are_not_walked_out_of(executor: DockerExecutor, name: str) -> None:
    """A folder that is a link, closed or none: the pattern is named with the reason."""
    make, omitted = FOLDERS[name]
    outcome = await leave(executor, sh(f"{GOOD}{make}; exit 0"), "**/good.json", "there/*")
    assert (outcome.verdict, outcome.files) == (V.OK, HONEST), outcome
    assert outcome.files_omitted == omitted


async def test_as_many_come_back_as_may(executor: DockerExecutor) -> None:
    """Past the number of files a pattern is named as too many; what came first is there."""
    code = f"import os\nos.mkdir('out')\nfor n in range({2 * OUTPUT_FILES}):\n"
    outcome = await leave(executor, py(code + "    open(f'out/{n}', 'w')"), "out/*", "main.py")
    assert len(outcome.files) == OUTPUT_FILES
    assert outcome.files_omitted == {"out/*": "too_many", "main.py": "too_many"}


async def test_a_million_names_are_not_looked_through(executor: DockerExecutor) -> None:
    """As many entries as the disk allows, wide and deep, cost a bounded time."""
    code = """
import os
for folder in range(40):
    os.mkdir(str(folder))
    try:
        for number in range(1000): os.symlink('/etc/passwd', f'{folder}/{number}')
    except OSError: break
"""
    outcome = await leave(executor, py(code), "**/*.json", "main.py")
    assert outcome.files_omitted == {"**/*.json": "too_many"}
    assert set(outcome.files) == {"main.py"}


async def test_deep_folders_are_not_followed_down(executor: DockerExecutor) -> None:
    """Folders within one another, deeper than any name that could be asked for."""
    code = "import os\nfor _ in range(900):\n    os.mkdir('d')\n    os.chdir('d')\n"
    outcome = await leave(executor, py(code), "**/x.json", "d/*")
    assert outcome.files_omitted == {"**/x.json": "too_many", "d/*": "missing"} or (
        outcome.files_omitted == {"**/x.json": "too_many", "d/d": "not_a_file"}
    )


async def test_odd_names_are_named(executor: DockerExecutor) -> None:
    """What is not UTF-8 or could not be asked for is told in a form that can be read."""
    code = (
        "import os\nos.mkdir(b'out')\nfor name in (b'\\xff', b'a\\nb', b'c\\\\d', b'\\xc3\\xb6'):\n"
    )
    outcome = await leave(executor, py(code + "    open(b'out/' + name, 'w').close()"), "out/*")
    assert outcome.files == {"out/\u00f6": b""}
    assert set(outcome.files_omitted) == {"out/\\udcff", "out/a\nb", "out/c\\d"}
    assert set(outcome.files_omitted.values()) == {"bad_name"}


async def test_a_file_does_not_grow_while_it_is_read(executor: DockerExecutor) -> None:
    """Whoever writes to it, moves it or swaps it for a link is gone before."""
    code = """
import os, signal, time
os.mkdir('out')
open('out/a.json', 'wb').write(b'x' * 1000)
for kind in range(3):
    if os.fork() == 0:
        os.setsid()
        for number in range(1, 65):
            try: signal.signal(number, signal.SIG_IGN)
            except (OSError, ValueError): pass
        while True:
            try:
                if kind == 0: open('out/a.json', 'ab').write(b'y' * 4096)
                elif kind == 1: os.truncate('out/a.json', 10)
                else: os.symlink('/etc/passwd', 'out/l'); os.rename('out/l', 'out/a.json')
            except OSError: pass
time.sleep(0.3)
"""
    outcome = await leave(executor, py(code), "out/*.json")
    told = {**outcome.files, **outcome.files_omitted}
    assert set(told) == {"out/a.json"}, outcome
    assert b"root:" not in outcome.files.get("out/a.json", b"")


async def test_files_are_bounded_in_bytes(executor: DockerExecutor) -> None:
    """All together; one that does not fit any more is named, a smaller one still comes."""
    code = """
import os
os.mkdir('out')
for n in range(4): open(f'out/{n}', 'wb').write(bytes(5 << 20))
open('out/9', 'w').write('small')
"""
    outcome = await leave(executor, py(code), "out/?")
    assert set(outcome.files) == {"out/0", "out/1", "out/2", "out/9"}
    assert outcome.files_omitted == {"out/3": "too_large"}


@pytest.mark.parametrize(
    ("code", "limits"),
    [
        ("while True: pass", Limits(wall_time_s=1.0, cpu_time_s=60.0)),
        ("x = bytearray(1 << 30)", LONG),
        ("import os\nwhile True: os.fork()", Limits(wall_time_s=5.0, cpu_time_s=1.0)),
    ],
)
async def test_a_program_that_is_stopped_leaves_its_files(
    executor: DockerExecutor, code: str, limits: Limits
) -> None:
    """Whatever it is stopped for, what it wrote comes back, or is named."""
    make = "import os\nos.mkdir('out')\nopen('out/good.json', 'w').write('good\\n')\n"
    outcome = await leave(executor, py(make + code, limits), "out/*.json", "nosuch")
    assert outcome.verdict is not V.OK
    assert outcome.files == HONEST or set(outcome.files_omitted) == {"out/*.json", "nosuch"}

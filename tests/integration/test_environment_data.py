"""Programs in the environment ``data``, and what an executor says of environments."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest
import pytest_asyncio

from crucible.environments import DATA, DEFAULT, Environment
from crucible.errors import ExecutorRefused
from crucible.executor import ExecutorConfig, open_executor
from crucible.executor.service import open_service
from crucible.models import Limits, Program, Verdict

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from crucible.executor import Executor
    from crucible.models import Outcome

    Run = Callable[..., Awaitable[Outcome]]

pytestmark = [pytest.mark.docker, pytest.mark.asyncio(loop_scope="module")]

MISSING = Environment(name="missing", packages=DEFAULT.packages)
CONFIG = ExecutorConfig(pool_min=1, environments=(DEFAULT, DATA, MISSING))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def executor() -> AsyncIterator[Executor]:
    async with open_executor(CONFIG) as opened:
        yield opened


@pytest.fixture(params=["container", "nested"])
def run(request: pytest.FixtureRequest, executor: Executor) -> Run:
    """Runs a program in ``data``, in each isolation."""

    async def run(code: str, **changes: object) -> Outcome:
        program = Program(
            language="python",
            code=code,
            environment="data",
            limits=Limits(wall_time_s=60.0, cpu_time_s=60.0),
            isolation=request.param,
        )
        return await executor.run(msgspec.structs.replace(program, **changes))

    return run


@pytest.mark.parametrize(
    ("module", "expression"),
    [
        ("numpy", "numpy.arange(4).sum()"),
        ("pandas", "pandas.Series([1, 2, 3]).sum()"),
        ("scipy.linalg", "round(scipy.linalg.det([[4, 1], [2, 2]]))"),
        ("sympy", "sympy.factorint(64)[2]"),
        ("jinja2", "jinja2.Template('{{ a }}').render(a=6)"),
    ],
)
async def test_packages_are_there(run: Run, module: str, expression: str) -> None:
    """Every package of the environment can be imported and works."""
    outcome = await run(f"import {module}\nprint({expression})")
    assert (outcome.verdict, outcome.stdout) == (Verdict.OK, b"6\n"), outcome


@pytest.mark.parametrize("asked", ["out/plot.png", "out/*.png", "**/*.png"])
async def test_a_plot_comes_back(run: Run, asked: str) -> None:
    """matplotlib draws without a display, and what it drew is handed back, whole."""
    code = (
        "import os\nfrom matplotlib import pyplot\npyplot.plot([1, 3, 2])\n"
        "os.mkdir('out')\npyplot.savefig('out/plot.png')\n"
    )
    outcome = await run(code, output_files=(asked,))
    assert outcome.verdict is Verdict.OK, outcome
    assert (set(outcome.files), outcome.files_omitted) == ({"out/plot.png"}, {})
    content = outcome.files["out/plot.png"]
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    assert b"IEND" in content[-12:]


async def test_numpy_is_ready_before_the_program(run: Run) -> None:
    """The waiting interpreter has it; one started for the program has not."""
    code = "import sys\nprint('numpy' in sys.modules)"
    assert (await run(code)).stdout == b"True\n"
    cold = await run(code, env={"PYTHONDONTWRITEBYTECODE": "1"})
    assert cold.stdout == b"False\n"
    other = await run(code, environment="default")
    assert other.stdout == b"False\n"


async def test_programs_draw_other_numbers(run: Run) -> None:
    """What was imported before the fork does not make programs draw alike."""
    code = "import os, numpy\nread, write = os.pipe()\nprint(numpy.random.rand())\n"
    drawn = {(await run(code)).stdout for _ in range(3)}
    assert len(drawn) == 3


async def test_libraries_start_no_more_threads_than_processors(run: Run) -> None:
    """A product of matrices runs in the one thread that the sandbox has a processor for."""
    code = (
        "import os, numpy\n"
        "a = numpy.ones((400, 400))\n"
        "print((a @ a)[0, 0], len(os.listdir('/proc/self/task')))\n"
    )
    assert (await run(code)).stdout == b"400.0 1\n"
    chosen = await run(code, env={"OPENBLAS_NUM_THREADS": "2"})
    assert chosen.stdout == b"400.0 2\n"


async def test_a_lane_is_of_one_environment(executor: Executor) -> None:
    """It goes on with programs of its environment, and only with those."""
    code = "import os\nprint(os.stat('/proc/self/ns/net').st_ino)"
    program = Program(language="python", code=code, environment="data", isolation="nested")
    lanes = {(await executor.run(program)).stdout for _ in range(4)}
    assert len(lanes) == 1
    other = await executor.run(msgspec.structs.replace(program, environment="default"))
    assert other.stdout not in lanes


async def test_the_least_memory_is_enough(run: Run) -> None:
    """For a program that uses what is there already; one that wants more is told so."""
    least = Limits(memory_mb=DATA.least_memory_mb, wall_time_s=60.0)
    ready = await run("import numpy\nprint(numpy.arange(4).sum())", limits=least)
    assert (ready.verdict, ready.stdout) == (Verdict.OK, b"6\n"), ready
    hog = await run("import numpy\nnumpy.ones(1 << 26)", limits=least)
    assert hog.verdict is Verdict.MEMORY_LIMIT, hog


async def test_too_little_memory_is_refused(run: Run) -> None:
    """What the environment itself takes cannot be forbidden to it."""
    with pytest.raises(ExecutorRefused, match=r"limits\.memory_mb: must be at least 64"):
        await run("pass", limits=Limits(memory_mb=32))


async def test_an_unknown_environment_is_refused(run: Run) -> None:
    """The same for one that is not served."""
    with pytest.raises(ExecutorRefused, match='environment: "judge" is not served'):
        await run("pass", environment="judge")


async def test_an_environment_without_an_image_is_refused(run: Run) -> None:
    """A fault of the installation, and no verdict."""
    with pytest.raises(ExecutorRefused, match="crucible-sandbox:missing"):
        await run("pass", environment="missing")


async def test_an_executor_service_says_what_it_has() -> None:
    """Through another process as well: environments with and without an image, programs in them."""
    async with (
        open_service(CONFIG) as url,
        open_executor(ExecutorConfig(urls=(url,))) as remote,
    ):
        states = {one.name: one for one in await remote.environments()}
        assert {name for name, one in states.items() if one.image_id} == {"default", "data"}
        assert states["data"].versions["python"].startswith("3.11")
        code = "import numpy; print(numpy.prod([6, 7]))"
        outcome = await remote.run(Program(language="python", code=code, environment="data"))
        assert outcome.stdout == b"42\n"

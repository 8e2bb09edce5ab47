"""Programs that something in a sandbox once got wrong, each with its right outcome."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec
import pytest
import pytest_asyncio
from support.program_faults import describe, load_faults

from crucible.evaluation.result import result_of
from crucible.executor import ExecutorConfig
from crucible.executor.docker import DockerExecutor

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from crucible.models import Isolation

pytestmark = [pytest.mark.docker, pytest.mark.asyncio(loop_scope="module")]

FAULTS = load_faults()
#: 16 MiB of files in base64, and output.
LONGEST_ANSWER_BYTES = 32 << 20


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def executor() -> AsyncIterator[DockerExecutor]:
    async with DockerExecutor.open(ExecutorConfig(pool_min=1, pool_max=3)) as opened:
        yield opened


@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.parametrize("isolation", ["container", "nested"])
async def test_a_program_has_its_right_outcome(
    executor: DockerExecutor, name: str, isolation: Isolation
) -> None:
    """Verdict, output, encoding and files are what the program made of them."""
    case = FAULTS[name]
    outcome = await executor.run(case.program(isolation))
    assert outcome.verdict is case.verdict, describe(outcome)
    assert outcome.output_truncated is case.truncated
    shown = result_of("x", outcome, worker="", retry_count=0, started_at="", finished_at="")
    assert shown.output_encoding == "utf-8"
    if case.output is not None:
        assert shown.output == case.output, describe(outcome)
    if case.output_regex is not None:
        assert re.fullmatch(case.output_regex, shown.output), describe(outcome)
    assert len(msgspec.json.encode(shown)) < LONGEST_ANSWER_BYTES
    assert outcome.files.keys() == case.returned
    assert outcome.files_omitted == case.omitted

"""The whole corpus through real containers, in each isolation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest
import pytest_asyncio
from support.corpus import CorpusProgram, Observed, load_corpus

from crucible.executor import Executor, ExecutorConfig, open_executor

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from crucible.models import Isolation

pytestmark = [pytest.mark.docker, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def executor() -> AsyncIterator[Executor]:
    async with open_executor(ExecutorConfig(pool_min=1, pool_max=2)) as opened:
        await opened.check()
        yield opened


@pytest.mark.parametrize("entry", load_corpus(), ids=lambda entry: entry.name)
@pytest.mark.parametrize("isolation", ["container", "nested"])
async def test_corpus_program(
    executor: Executor, entry: CorpusProgram, isolation: Isolation
) -> None:
    """A program ends as its expectation says, to the byte, whatever keeps it apart from others."""
    outcome = await executor.run(msgspec.structs.replace(entry.program(), isolation=isolation))
    assert outcome.isolation == isolation
    assert entry.check(Observed.from_outcome(outcome)) == []

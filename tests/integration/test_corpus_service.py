"""A part of the corpus through an executor service, in each isolation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest
import pytest_asyncio
from support.corpus import CorpusProgram, Observed, load_corpus

from crucible.executor import Executor, ExecutorConfig, open_executor
from crucible.executor.service import open_service

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from crucible.models import Isolation

pytestmark = [pytest.mark.docker, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def executor() -> AsyncIterator[Executor]:
    config = ExecutorConfig(pool_min=1, pool_max=2)
    async with open_service(config) as url:
        async with open_executor(ExecutorConfig(urls=(url,))) as remote:
            yield remote


@pytest.mark.parametrize("entry", load_corpus()[::5], ids=lambda entry: entry.name)
@pytest.mark.parametrize("isolation", ["container", "nested"])
async def test_corpus_program_through_a_service(
    executor: Executor, entry: CorpusProgram, isolation: Isolation
) -> None:
    """A sample of the programs ends the same in an executor service, in each isolation."""
    outcome = await executor.run(msgspec.structs.replace(entry.program(), isolation=isolation))
    assert outcome.isolation == isolation
    assert entry.check(Observed.from_outcome(outcome)) == []

"""The parts of a migration in one api process, opened and closed together."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from crucible.broker.redis.connection import open_client
from crucible.evaluation.completions import CompletionCounter
from crucible.evaluation.limits import ceilings_of
from crucible.evaluation.record import tenant_of, unended_ttl_s
from crucible.evaluation.transitions import as_read
from crucible.events.writer import NoEvents
from crucible.legacy import LegacyClient
from crucible.migration.live.breakers import Breakers
from crucible.migration.live.comparer import DualComparer, Mismatches
from crucible.migration.live.copies import Copies
from crucible.migration.live.ends import LegacyEnds
from crucible.migration.live.follower import Follower
from crucible.migration.live.ledger import Ledger
from crucible.migration.live.legacy_backend import LegacyBackend
from crucible.migration.live.sample import Sampler
from crucible.migration.live.shadow import Shadow
from crucible.migration.live.watch import SwitchWatch
from crucible.migration.routing import QueueSystem

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from crucible.breaker import Circuit
    from crucible.broker import Publisher
    from crucible.evaluation.request import EvalRequest
    from crucible.evaluation.webhook_notifier import WebhookNotifier
    from crucible.events.writer import EventSink
    from crucible.executor.served import ServedEnvironments
    from crucible.models import Evaluation
    from crucible.settings import Settings

#: Seconds in which a copy is not sent twice where results are kept for ever.
_COPY_TTL_S = 86_400


@dataclass(frozen=True, slots=True)
class Migration:
    """What routes, follows and compares evaluations while there is a legacy queue.

    Attributes:
        breakers: of what it depends on.
        watch: the switches in force.
        legacy: client of the legacy queue.
        backend: submitting to that queue, and what is known of its tasks.
        ledger: what is kept of evaluations the legacy queue accepted.
        follower: evaluations of this process that have not ended as far as it knows.
        mismatches: what comparisons of dual-write traffic found.
        shadow: sends copies to Celery in the background.
        sampler: keeps a sample of what clients submit.
    """

    breakers: Breakers
    watch: SwitchWatch
    legacy: LegacyClient
    backend: LegacyBackend
    ledger: Ledger
    follower: Follower
    mismatches: Mismatches
    shadow: Shadow
    sampler: Sampler

    def circuits(self) -> dict[str, Circuit]:
        """This process's circuits, by downstream."""
        return {breaker.name: breaker.circuit for breaker in self.breakers}


@dataclass(frozen=True, slots=True)
class _Observer:
    """Counts and compares what the follower saw (see ``follower.Observer``)."""

    counter: CompletionCounter
    comparer: DualComparer
    events: EventSink

    def completed(self, queue_system: QueueSystem, evaluation: Evaluation) -> None:
        """An evaluation or its copy ended; workers count those of Celery themselves."""
        if queue_system is not QueueSystem.LEGACY:
            return
        timing = evaluation.timing_ms
        end = as_read(evaluation, tenant_of(evaluation.eval_id))
        if end is not None:
            self.events.add(end)
        if timing is not None:
            self.counter.note("legacy", evaluation.status, evaluation.eval_id, timing.total / 1000)

    def paired(self, asked: EvalRequest, legacy: Evaluation, celery: Evaluation) -> None:
        """An evaluation and its copy both ended."""
        self.comparer.compare(asked, legacy, celery)


@asynccontextmanager
async def open_migration(
    settings: Settings,
    publisher: Publisher,
    served: ServedEnvironments,
    events: EventSink | None = None,
    webhooks: WebhookNotifier | None = None,
) -> AsyncIterator[Migration]:
    """Connect to the legacy queue and run the background parts while the context is open.

    Args:
        settings: with ``queue_service_url``.
        publisher: publishes copies, and reads results of Celery tasks.
        served: the environments a program may run in.
        events: takes the events of evaluations in the legacy queue; None drops them.
        webhooks: sends the webhooks of these; None where nobody is to be notified.
    """
    keys, results, ttl_s = publisher.keys, publisher.results, settings.result_ttl_s
    breakers = Breakers(settings)
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        client = await enter(open_client(settings.celery_broker_url, name="migration"))
        legacy = await enter(
            LegacyClient(settings.queue_service_url, token=settings.queue_service_token)
        )
        watch = await enter(SwitchWatch(client, keys, settings, breakers.queue))
        ledger = await enter(Ledger(client, keys, unended_ttl_s(ttl_s), ttl_s, breakers.records))
        ends = LegacyEnds(ledger, webhooks)
        backend = LegacyBackend(
            legacy,
            breakers.legacy,
            ledger,
            ends,
            results,
            served=served,
            ceilings=ceilings_of(settings),
            isolation=settings.isolation,
        )
        mismatches = Mismatches(client, keys)
        counter = await enter(CompletionCounter().writing(settings.celery_broker_url, keys, ttl_s))
        copies = Copies(publisher, ttl_s or _COPY_TTL_S)
        comparer = await enter(DualComparer(mismatches, copies.run_again))
        observer = _Observer(counter, comparer, events or NoEvents())
        follower = await enter(Follower(legacy, results, ledger, ends, observer))
        sampler = await enter(Sampler(client, keys))
        shadow = await enter(Shadow(copies.send, follower.without_copy, breakers.queue))
        yield Migration(
            breakers=breakers,
            watch=watch,
            legacy=legacy,
            backend=backend,
            ledger=ledger,
            follower=follower,
            mismatches=mismatches,
            shadow=shadow,
            sampler=sampler,
        )

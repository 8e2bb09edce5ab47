"""The parts of a worker, put together in the order of their dependencies.

Every part is given what it needs when it is made; a part only refers to parts above it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from crucible.broker.canvas.chord_parts import ChordParts
from crucible.broker.claiming.claims import Claims, new_worker_id
from crucible.broker.claiming.delayed import DueMessages
from crucible.broker.claiming.liveness import Heartbeat, encode_heartbeat
from crucible.broker.claiming.recovery.restorer import Restorer
from crucible.broker.claiming.recovery.sweeper import Sweeper
from crucible.broker.outage import Outage
from crucible.worker.admission import Admission
from crucible.worker.canvas.builtins import builtin_tasks
from crucible.worker.canvas.chords import Chords
from crucible.worker.canvas.duties import CanvasDuties
from crucible.worker.canvas.errbacks import Errbacks
from crucible.worker.canvas.outgoing import OutgoingEncoder, TaskSender
from crucible.worker.connections import Connections, open_connections
from crucible.worker.consumer import Consumer
from crucible.worker.control.node import Node
from crucible.worker.dead_letters import DeadLetterEncoder
from crucible.worker.execution.call import Caller
from crucible.worker.execution.execute import Execution
from crucible.worker.execution.threads import Threads
from crucible.worker.hooks import notify
from crucible.worker.liveness.delayed import DelayedMessages
from crucible.worker.liveness.lease import Lease
from crucible.worker.liveness.recovery import Recovery
from crucible.worker.load import WorkerLoad
from crucible.worker.processor import Processor
from crucible.worker.rate_limits import RateLimits
from crucible.worker.refused import RefusedSettlements
from crucible.worker.result_encoder import ResultEncoder
from crucible.worker.settlement_writer import SettlementWriter
from crucible.worker.settlements import Settlements
from crucible.worker.slots import Slots
from crucible.worker.state_updates import StateUpdates
from crucible.worker.unsettled import UnsettledRuns
from crucible.worker.wakeup import WakeUp

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping, Sequence
    from contextlib import AsyncExitStack

    from crucible.broker.claiming.claims import Settlement
    from crucible.worker.config import WorkerConfig
    from crucible.worker.hooks import TaskHooks
    from crucible.worker.registry import TaskRegistry

    #: Overrides of tasks' time limits in seconds by name: hard, soft.
    TimeLimits = dict[str, tuple[float | None, float | None]]

#: Threads for plain functions, made as they are needed; some may never return.
_THREADS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The parts of a worker that it starts, stops or asks."""

    connections: Connections
    claims: Claims
    unsettled: UnsettledRuns
    node: Node
    outage: Outage
    slots: Slots
    rates: RateLimits
    time_limits: TimeLimits
    lease: Lease
    delayed: DelayedMessages
    recovery: Recovery
    writer: SettlementWriter
    refused: RefusedSettlements
    processor: Processor
    wake_up: WakeUp | None
    consumer: Consumer


@dataclass(frozen=True, slots=True)
class _Base:
    """What most parts are made from."""

    config: WorkerConfig
    registry: TaskRegistry
    lifespans: Mapping[Hashable, Any]
    connections: Connections
    claims: Claims


async def open_parts(
    stack: AsyncExitStack,
    config: WorkerConfig,
    registry: TaskRegistry,
    hooks: Sequence[TaskHooks],
) -> Parts:
    """Open the registry's lifespans and the connections, and make the parts; nothing runs yet.

    Args:
        stack: closes what was opened.
        config: settings of the worker.
        registry: its tasks.
        hooks: notified of what happens to each task, besides those of the registry.

    Raises:
        ValueError: a URL cannot be used.
    """
    lifespans = await registry.open(stack)
    connections = await open_connections(stack, config)
    base = _Base(config, registry, lifespans, connections, _claims(config, connections))
    claims, clock = base.claims, base.claims.clock
    unsettled = UnsettledRuns()
    slots = Slots(config.concurrency)
    rates = RateLimits(registry, slots.offer, slots.withhold)
    node = Node(config, connections, lambda: len(slots.running))
    sweeper = _sweeper(config, connections)
    outage = Outage()
    load = WorkerLoad(slots, unsettled)
    lease = Lease(claims, unsettled, lambda: _heartbeat(config.hostname, registry, load), outage)
    due = DueMessages(connections.steps, config.keys, config.visibility_timeout_s, clock)
    delayed = DelayedMessages(due, sweeper, clock)
    all_hooks: list[TaskHooks] = [node.task_events, load, *hooks, *registry.all_hooks()]
    written = (_notifying(all_hooks), unsettled.settled, delayed.settled)
    writer = SettlementWriter(claims, *written, outage=outage)
    threads = Threads(max(_THREADS, 2 * config.concurrency))
    stack.callback(threads.close)
    time_limits: TimeLimits = {}
    execution, settlements = _execution(
        base,
        writer,
        Admission(node.revocations, rates, clock),
        threads,
        time_limits,
        all_hooks,
    )
    wake_up = None
    if config.claim == "atomic":
        wake_up = WakeUp(connections.client, claims.list_keys)
    return Parts(
        connections=connections,
        claims=claims,
        unsettled=unsettled,
        node=node,
        outage=outage,
        slots=slots,
        rates=rates,
        time_limits=time_limits,
        lease=lease,
        delayed=delayed,
        recovery=Recovery(sweeper),
        writer=writer,
        refused=RefusedSettlements(writer, claims, unsettled, settlements),
        processor=Processor(execution, settlements, writer, claims, lease, delayed, unsettled),
        wake_up=wake_up,
        consumer=Consumer(
            claims, slots, unsettled, writer, wake_up, lambda: bool(registry.troubles())
        ),
    )


def _notifying(hooks: Sequence[TaskHooks]) -> Callable[[Sequence[Settlement]], None]:
    """Notifies hooks of settlements that were written."""
    return lambda settlements: notify(hooks, lambda hook: hook.settled(settlements))


def _claims(config: WorkerConfig, connections: Connections) -> Claims:
    return Claims(
        connections.steps,
        new_worker_id(),
        config.queues,
        keys=config.keys,
        results=connections.other_results,
        visibility_timeout_s=config.visibility_timeout_s,
        result_ttl_s=config.result_ttl_s,
    )


def _sweeper(config: WorkerConfig, connections: Connections) -> Sweeper:
    restorer = Restorer(
        connections.steps,
        config.keys,
        results=connections.other_results,
        max_deliveries=config.max_deliveries,
        result_ttl_s=config.result_ttl_s,
    )
    return Sweeper(connections.steps, config.keys, restorer)


def _heartbeat(hostname: str, registry: TaskRegistry, load: WorkerLoad) -> str:
    gauges = {**registry.all_gauges(), **load.gauges()}
    reported = (registry.troubles(), registry.all_circuits(), gauges)
    return encode_heartbeat(Heartbeat(hostname, *reported))


def _execution(
    base: _Base,
    writer: SettlementWriter,
    admission: Admission,
    threads: Threads,
    time_limits: TimeLimits,
    hooks: Sequence[TaskHooks],
) -> tuple[Execution, Settlements]:
    """What calls tasks, and what settles their runs; between them, what canvases need."""
    config, registry, connections = base.config, base.registry, base.connections
    keys, hostname, effects = config.keys, config.hostname, base.claims.effects
    encoder = ResultEncoder(hostname, extended=config.result_extended)
    states = StateUpdates(writer, encoder, keys, hostname, hooks)
    outgoing = OutgoingEncoder(registry, keys, config.default_queue)
    sender = TaskSender(outgoing, effects)
    caller = Caller(hostname, base.lifespans, threads, states, sender, time_limits)
    errbacks = Errbacks(registry, outgoing, caller.invoke)
    parts = ChordParts(
        connections.results,
        keys,
        config.result_ttl_s,
        connections.steps if connections.other_results else None,
    )
    chords = Chords(parts, outgoing, errbacks, keys, extended=config.result_extended)
    canvas = CanvasDuties(outgoing, chords, errbacks, effects)
    settlements = Settlements(
        encoder,
        DeadLetterEncoder(hostname, base.claims.clock),
        canvas,
        hooks,
        keys=keys,
        clock=base.claims.clock,
        max_deliveries=config.max_deliveries,
    )
    builtins = builtin_tasks(registry, canvas, parts.metas)
    execution = Execution(registry, builtins, admission, caller, settlements, states, hooks)
    return execution, settlements

"""One lane: a container of one tenant that runs one program after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crucible.errors import ExecutorUnavailable
from crucible.executor import frames, jail
from crucible.executor.nested.options import LANE_BYTES, LANE_PIDS, lane_body, lane_setup
from crucible.executor.nested.requirements import check_host, telling_what_is_missing
from crucible.executor.sandbox import NotStarted, Sandbox
from crucible.models import Verdict

if TYPE_CHECKING:
    from crucible.executor.config import ExecutorConfig
    from crucible.executor.engine import Engine
    from crucible.executor.output import Output
    from crucible.executor.sandbox import Shape
    from crucible.models import Isolation, Limits, Outcome

#: Ends after which a lane may go on.
HARMLESS = frozenset({Verdict.OK, Verdict.NONZERO_EXIT})


class Lane(Sandbox):
    """A container whose programs have namespaces of their own, one at a time.

    Attributes:
        tenant: whose it is; empty until its first program.
        served: programs since its start.
        good: the last program came to its own end.
        idle_since: monotonic second of its last program's end.
        kept_apart: the program that has it now is the only one until it is restarted.
    """

    isolation: Isolation = "nested"
    parts = jail.LANE
    overhead_pids = LANE_PIDS
    overhead_bytes = LANE_BYTES

    def __init__(self, engine: Engine, config: ExecutorConfig, shape: Shape, uid: int) -> None:
        super().__init__(engine, config, shape, uid)
        self.tenant = ""
        self.served = 0
        self.idle_since = 0.0
        self.good = False
        self.kept_apart = False

    @property
    def reusable(self) -> bool:
        """Whether what it compiled may run in it as it is."""
        return self.clean and self.good and self.served < self._config.lane_programs

    async def prepare(self, deadline_s: float = 15.0) -> None:
        """Start, and wait until the namespaces of the first program are there.

        Raises:
            ExecutorRefused: this machine cannot have lanes.
            ExecutorUnavailable: it did not come up.
        """
        self.tenant, self.served = "", 0
        with telling_what_is_missing():
            await super().prepare(deadline_s)

    async def fit(self, limits: Limits) -> None:
        """Give the lane the memory and pids that a program may use.

        Raises:
            NotStarted: the kernel did not give up what programs before have left as cache, or the
                engine did not do it; another lane may.
        """
        try:
            await super().fit(limits)
        except ExecutorUnavailable as error:
            raise NotStarted(f"a lane could not be fitted to its program: {error}") from error

    async def _serve(self, request: bytes, limits: Limits, output: Output) -> Outcome:
        """Have one program run or compiled.

        The lane may have another if it is ``clean`` and ``good`` then.
        """
        self.served += 1
        self.good = False
        outcome = await super()._serve(request, limits, output)
        self.good = outcome.verdict in HARMLESS
        return outcome

    async def _body(self) -> dict[str, Any]:
        host = await self._engine.host()
        check_host(host, self._config.runtime or "")
        return lane_body(
            self.limits,
            self._config,
            self.image_id,
            preload=self.shape.preload,
            apparmor=host.apparmor,
        )

    async def _script(self) -> bytes:
        machine = (await self._engine.host()).machine
        setup = lane_setup(self.shape.disk_mb, machine, self._config.lane_programs)
        return await super()._script() + frames.encode_message(setup)

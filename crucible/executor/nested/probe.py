"""Whether a machine can have lanes: by starting one."""

from __future__ import annotations

import importlib.resources
import logging
import math
import time
from typing import TYPE_CHECKING

from crucible.errors import ExecutorError, RequirementError, SettingsError
from crucible.executor.nested.lane import Lane
from crucible.executor.nested.options import APPARMOR_PROFILE
from crucible.executor.nested.requirements import NestedUnavailable
from crucible.executor.sandbox import Shape
from crucible.fail_fast_lock import FailFastLock
from crucible.models import Limits

if TYPE_CHECKING:
    from collections.abc import Callable

    from crucible.executor.config import ExecutorConfig
    from crucible.executor.engine import Engine

log = logging.getLogger(__name__)

#: Seconds after which a machine that could not have lanes is tried again.
AGAIN_S = 300.0


def apparmor_profile() -> str:
    """The profile that lanes need where the engine confines containers by AppArmor."""
    name = f"{APPARMOR_PROFILE}.apparmor"
    return importlib.resources.files(__package__).joinpath(name).read_text("utf-8")


async def probe_nested(engine: Engine, config: ExecutorConfig) -> None:
    """Start a lane, up to the namespaces of a first program, and remove it.

    Raises:
        RequirementError: it cannot be had here.
        ExecutorError: the engine or the image is not there, which says nothing about lanes.
    """
    image = config.image_of(config.environments[0])
    lane = Lane(engine, config, Shape(disk_mb=Limits().disk_mb, image=image), uid=0)
    try:
        await lane.create()
        await lane.prepare()
    except NestedUnavailable as error:
        raise error.missing from error
    finally:
        await lane.remove()


def not_met(missing: RequirementError) -> SettingsError:
    """The refusal to start with ``nested`` for programs that name no isolation."""
    detail = f"nested cannot be had here: {missing.message}; {missing.remedy}"
    return SettingsError("CRUCIBLE_ISOLATION", detail)


class NestedTrial:
    """Whether lanes can be had, as far as was tried.

    A yes is not doubted again: should it become false, programs are refused with the reason. A no
    is tried again after ``AGAIN_S``, since an operator may have done what was missing.
    """

    def __init__(
        self, engine: Engine, config: ExecutorConfig, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._engine = engine
        self._config = config
        self._trying = FailFastLock()
        self._missing: RequirementError | None = None
        self._valid_until_s = -math.inf

    async def missing(self) -> RequirementError | None:
        """What this machine lacks; None: lanes can be had.

        Raises:
            ExecutorError: the engine or the image is not there, so it is not known.
        """
        async with self._trying.hold():
            if self._clock() >= self._valid_until_s:
                await self._try()
            return self._missing

    async def require(self) -> None:
        """Refuse to start with a setting that cannot be met.

        An engine that does not answer, or has no image yet, may be able to once it does.

        Raises:
            SettingsError: programs that name no isolation would get ``nested``, which cannot be
                had.
        """
        try:
            missing = await self.missing()
        except ExecutorError:
            return
        if missing is not None:
            raise not_met(missing) from missing

    async def _try(self) -> None:
        try:
            await probe_nested(self._engine, self._config)
        except RequirementError as missing:
            self._valid_until_s = self._clock() + AGAIN_S
            if self._missing is None:
                log.info("isolation nested is not offered: %s; %s", missing.message, missing.remedy)
            self._missing = missing
        else:
            self._missing, self._valid_until_s = None, math.inf

"""``/metrics`` while what it asks hangs."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from support.api_rig import running_api
from support.faults import Fault, FaultProxy

from crucible.legacy import LegacyClient, open_service

if TYPE_CHECKING:
    import pytest


async def test_metrics_wait_for_nobody_long(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Depths that cannot be had in time are left out, however patient the clients behind are."""
    monkeypatch.setattr("crucible.broker.redis.deadline.REPLY_TIMEOUT_S", 600)
    patient = functools.partial(LegacyClient, deadline_s=600)
    monkeypatch.setattr("crucible.migration.live.migration.LegacyClient", patient)
    parts = urlsplit(redis_url)
    async with (
        open_service() as port,
        FaultProxy("127.0.0.1", parts.port or 0) as queue,
        FaultProxy("127.0.0.1", port) as legacy,
        running_api(
            f"redis://127.0.0.1:{queue.port}{parts.path}",
            queue_service_url=f"http://127.0.0.1:{legacy.port}",
        ) as client,
    ):
        for fault in (Fault.PASS, Fault.STALL, Fault.PASS):
            queue.set(fault)
            legacy.set(fault)
            # Had it to wait for one of them, the client would give up first.
            async with client.get("/metrics") as response:
                text = await response.text()
            assert response.status == 200
            for side in ("celery", "legacy"):
                shown = f'queue_depth{{queue="{"evaluation" if side == "celery" else side}"'
                assert (shown in text) == (fault is Fault.PASS)
            assert "tasks_submitted_total" in text

"""Ends of evaluations in the legacy queue: their results are kept, and webhooks notified."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crucible.evaluation.kept_results import encode_kept
from crucible.evaluation.view import evaluation_of
from crucible.evaluation.webhook_ends import end_of
from crucible.models import ENDED

if TYPE_CHECKING:
    from crucible.broker.results.meta import Meta
    from crucible.evaluation.record import Record
    from crucible.evaluation.webhook_notifier import WebhookNotifier
    from crucible.migration.live.ledger import Ledger


class LegacyEnds:
    """Notes ends, which may be seen by several processes and again.

    Args:
        ledger: keeps results, since the legacy queue drops them.
        webhooks: sends deliveries, each once; None where nobody is to be notified.
    """

    def __init__(self, ledger: Ledger, webhooks: WebhookNotifier | None) -> None:
        self._ledger = ledger
        self._webhooks = webhooks

    async def note(self, eval_id: str, record: Record, meta: Meta) -> None:
        """Keep a result and notify webhooks of it, in this order: a delivery reads what is kept.

        Raises:
            BrokerError: the task queue server does not answer; doing it again is safe.
        """
        await self._ledger.keep_result(eval_id, encode_kept(meta))
        if self._webhooks is None:
            return
        ended = evaluation_of(eval_id, record, meta)
        if ended.status in ENDED:
            url = record.webhook_url
            await self._webhooks.notify([end_of(eval_id, ended.status, ended.verdict, url=url)])

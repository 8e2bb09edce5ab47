"""The routes of the API: who may ask, who answers, and which parameters each one knows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from crucible.api import (
    assessments,
    attempts,
    autoscale,
    batch,
    console,
    dead_letters,
    environments,
    evaluations,
    health,
    history,
    keys,
    metrics,
    migration,
    openapi,
    outputs,
    pages,
    principal,
    queues,
    recent,
    sessions,
    sides,
    tasks,
    webhooks,
    workers,
    workflows,
)
from crucible.api.callers import CALLERS
from crucible.api.events import handlers as events
from crucible.api.events.assessment import follow_assessment
from crucible.api.problems import not_submitted
from crucible.console import pages as console_pages
from crucible.errors import BrokerUnavailable, NothingStored
from crucible.http.query import check_query

if TYPE_CHECKING:
    from aiohttp import web
    from aiohttp.typedefs import Handler

    from crucible.api.callers import Need


def admitted(handler: Handler, need: Need) -> Handler:
    """A handler behind the check of its caller."""

    async def admitted(request: web.Request) -> web.StreamResponse:
        try:
            await request.app[CALLERS].admit(request, need)
        except BrokerUnavailable as error:
            if need == "submit" and request.method == "POST":
                return not_submitted(NothingStored(str(error)), named=False)
            raise
        return await handler(request)

    return admitted


@dataclass(frozen=True, slots=True)
class Route:
    """One line of the API.

    Attributes:
        method: HTTP method; HEAD comes with GET.
        path: as aiohttp's router has it.
        need: the scope that its caller must have, see ``callers.Need``.
        handler: answers it.
        query: parameters it knows; others are refused.
        query_prefix: what the names of further ones begin with.
    """

    method: str
    path: str
    need: Need
    handler: Handler
    query: frozenset[str] = frozenset()
    query_prefix: str = ""

    def checked(self) -> Handler:
        """The handler behind checks of the caller and of the query's parameters."""

        async def checked(request: web.Request) -> web.StreamResponse:
            check_query(request, self.query, self.query_prefix)
            return await self.handler(request)

        return admitted(checked, self.need)


_WAIT = frozenset({"wait"})
_LIMIT = frozenset({"limit"})
_PURGE = frozenset({"purge"})
_TASK_ROUTES: tuple[tuple[str, str, Need, Handler, frozenset[str]], ...] = (
    ("GET", "/tasks", "read", tasks.list_, _LIMIT | {"state", "cursor"}),
    ("GET", "/tasks/workers/status", "read", tasks.workers, frozenset()),
    ("GET", "/tasks/{task_id}", "read", tasks.show, frozenset()),
    ("DELETE", "/tasks/{task_id}", "submit", tasks.cancel, frozenset()),
    ("GET", "/tasks/{task_id}/result", "read", tasks.result, frozenset()),
    ("GET", "/workers/status", "read", tasks.workers, frozenset()),
    ("POST", "/assessments", "submit", assessments.create, frozenset()),
    ("GET", "/assessments", "read", assessments.list_, _LIMIT),
    ("GET", "/assessments/{assessment_id}", "read", assessments.show, frozenset()),
    ("DELETE", "/assessments/{assessment_id}", "submit", assessments.cancel, _PURGE),
    ("POST", "/assessments/{assessment_id}/cases", "submit", assessments.add_cases, frozenset()),
    ("POST", "/assessments/{assessment_id}/start", "submit", assessments.start, frozenset()),
    (
        "GET", "/assessments/{assessment_id}/events", "read", follow_assessment, frozenset(),
    ),
    (
        "GET", "/assessments/{assessment_id}/report", "read", assessments.report,
        assessments.REPORT_QUERY,
    ),
)  # fmt: skip
ROUTES = (
    Route("POST", "/api/eval", "submit", evaluations.submit, _WAIT),
    Route("POST", "/api/eval/batch", "submit", batch.submit, _WAIT),
    Route("GET", "/api/eval", "read", history.list_, history.LISTED, history.METADATA),
    Route("GET", "/api/v1/stats", "read", history.stats, history.COUNTED),
    Route("GET", "/api/eval/{eval_id}", "read", evaluations.show, _WAIT),
    Route("GET", "/api/eval/{eval_id}/output/{name}", "read", outputs.show),
    Route("DELETE", "/api/eval/{eval_id}", "submit", evaluations.cancel, _PURGE),
    Route("POST", "/api/eval/{eval_id}/retry", "submit", attempts.retry),
    Route("GET", "/api/eval/{eval_id}/request", "read", attempts.content),
    Route("DELETE", "/api/eval", "submit", attempts.cancel_many, *attempts.QUERY),
    Route("GET", "/api/eval/{eval_id}/events", "read", events.follow_one),
    Route("GET", "/api/events", "read", events.follow_all, frozenset({"status"})),
    Route("GET", "/api/environments", "key", environments.environments),
    Route("GET", "/api/languages", "key", environments.languages),
    Route("GET", "/api/v1/me", "key", principal.show),
    Route("GET", "/api/v1/workers", "admin", workers.list_),
    Route("POST", "/api/v1/flower", "admin", console.admit_to_flower),
    Route("GET", "/api/v1/queues", "admin", queues.show),
    Route("GET", "/api/v1/queues/recent", "admin", recent.show),
    Route("POST", "/api/v1/queues/{queue}/purge", "admin", queues.purge),
    Route("GET", "/api/v1/autoscale", "loopback", autoscale.show),
    Route("GET", "/api/v1/dlq", "read", dead_letters.list_, _LIMIT | {"before"}),
    Route("GET", "/api/v1/dlq/{letter_id}", "read", dead_letters.show),
    Route("DELETE", "/api/v1/dlq/{letter_id}", "submit", dead_letters.delete),
    Route("POST", "/api/v1/dlq/{letter_id}/replay", "submit", dead_letters.replay),
    Route("GET", "/api/v1/keys", "admin", keys.list_),
    Route("POST", "/api/v1/keys", "admin", keys.create),
    Route("DELETE", "/api/v1/keys/{key_id}", "admin", keys.revoke),
    Route("POST", "/api/v1/keys/{key_id}/rotate", "admin", keys.rotate),
    Route("GET", "/api/v1/migration", "admin", migration.show),
    Route("PUT", "/api/v1/migration", "admin", migration.change),
    Route("GET", "/api/v1/migration/sides", "admin", sides.show),
    Route("GET", "/api/v1/migration/mismatches", "admin", migration.mismatches, _LIMIT),
    Route("POST", "/api/v1/webhooks", "submit", webhooks.create),
    Route("GET", "/api/v1/webhooks", "read", webhooks.list_),
    Route("DELETE", "/api/v1/webhooks/{webhook_id}", "submit", webhooks.delete),
    Route("POST", "/api/v1/webhooks/{webhook_id}/rotate", "submit", webhooks.rotate),
    Route("GET", "/api/v1/webhooks/{webhook_id}/deliveries", "read", webhooks.deliveries),
    Route("POST", "/api/v1/webhooks/deliveries/{delivery_id}/replay", "submit", webhooks.replay),
    Route("POST", "/api/v1/sessions", "submit", sessions.create),
    Route("GET", "/api/v1/sessions", "read", sessions.list_),
    Route("GET", "/api/v1/sessions/{session_id}", "read", sessions.show),
    Route("DELETE", "/api/v1/sessions/{session_id}", "submit", sessions.close),
    Route("POST", "/api/v1/sessions/{session_id}/execute", "submit", sessions.execute),
    *(
        Route(method, f"{prefix}{path}", scope, handler, query)
        for prefix in ("", "/api/v1")
        for method, path, scope, handler, query in _TASK_ROUTES
    ),
    Route("POST", "/api/v1/workflows", "submit", workflows.submit),
    Route("GET", "/api/v1/workflows/{workflow_id}", "read", workflows.show),
    Route("DELETE", "/api/v1/workflows/{workflow_id}", "submit", workflows.cancel),
    Route("GET", "/metrics", "loopback", metrics.show),
    Route("GET", "/health", "nothing", health.live),
    Route("GET", "/ready", "nothing", health.ready),
    Route("GET", "/openapi.json", "nothing", openapi.document),
    Route("GET", "/", "nothing", console_pages.index),
    Route("GET", "/docs", "nothing", pages.docs),
    Route("GET", "/docs/docs.css", "nothing", pages.style),
    Route("GET", "/docs/docs.js", "nothing", pages.script),
)

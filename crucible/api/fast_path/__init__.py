"""Plain submissions answered by the connection itself, around aiohttp's request machinery.

The life of a plain ``POST /api/eval``:

1. ``connection.Connection.data_received``: bytes of the client arrive.
2. ``head.first_request``: their head is parsed, or looked up among those seen before.
3. Anything unusual goes to aiohttp as it came: router, ``api.problems``,
   ``api.evaluations.submit``.
4. ``evaluation.request.decode_request``: the body becomes an ``EvalRequest``.
5. ``evaluation.celery_service.CeleryService.begin``: checks it, gives it its id, renders its
   message (``evaluation.messages``) and its idempotency record.
6. ``Publisher.begin`` adds the message to the next flush (``broker.publishing.group_commit``),
   which is one script call on the queue server for all submissions that wait.
7. ``Connection.set_result``: the publish result. ``answer.accepted`` renders the 202.
8. A refused body was not sent anywhere, and a known id not pushed again: both start over at 3.

Bytes that arrive meanwhile are held, so answers keep their order. Why this is safe, and what of
aiohttp it builds on: ``docs/why/060-direct-submissions.md``.
"""

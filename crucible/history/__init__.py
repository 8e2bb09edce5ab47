"""The history of evaluations in SQL: written from the event bus, read by the api.

Needs the extra ``history``, and ``postgres`` for PostgreSQL. Nothing of a submission or of a
settlement waits for it.
"""

import logging

# Alembic logs as it is imported, and at every look at a version: of no use to an operator.
logging.getLogger("alembic").setLevel(logging.WARNING)

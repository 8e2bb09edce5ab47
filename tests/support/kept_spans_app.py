"""``crucible.celery_app`` with its spans in memory: ``celery -A support.kept_spans_app worker``."""

from __future__ import annotations

from support.kept_spans import WrittenAtLast, kept_spans

with kept_spans(WrittenAtLast()):
    from crucible.celery_app import app

__all__ = ["app"]

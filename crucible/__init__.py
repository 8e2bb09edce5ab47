"""Crucible runs code that nobody trusts and speaks Celery on Redis while doing so."""

__version__ = "0.1.0"

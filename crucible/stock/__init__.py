"""Serving a task registry from stock Celery workers."""

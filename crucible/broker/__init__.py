"""Celery on Redis lists, spoken by asyncio: producing, claiming, results."""

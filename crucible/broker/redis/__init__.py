"""Connections to Redis servers, and the atomic operations on them; see ``store.py``."""

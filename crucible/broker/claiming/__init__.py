"""Claims on messages; the life of one is told at the top of ``claims.py``."""

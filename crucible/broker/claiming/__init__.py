"""Claims on messages; ``claims.py`` starts with the life of one."""

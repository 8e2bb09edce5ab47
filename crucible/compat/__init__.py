"""Facades: the HTTP shapes of other systems, so that their clients run code here unchanged.

Each module is one facade, a thin translation onto the evaluation service; ``docs/compat.md`` says
what is the same and what differs.
"""

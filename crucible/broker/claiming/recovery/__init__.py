"""Giving back the claims of dead workers: to the queue, or to the dead letters."""

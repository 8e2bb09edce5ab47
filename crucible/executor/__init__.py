"""Runs one program in one container. Knows nothing of queues."""

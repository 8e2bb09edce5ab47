"""Runs anybody's tasks from the queues."""

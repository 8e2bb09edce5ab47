"""Shared by tests: rigs, tasks, the program corpus, fault injection."""

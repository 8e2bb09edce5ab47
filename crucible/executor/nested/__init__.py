"""Isolation ``nested``: a container of one tenant, in which each program has namespaces of its own.

``lane`` is one such container, ``pool`` keeps and lends them, ``policy`` decides without I/O,
``options`` and ``syscall_filter`` say what walls there are, ``requirements`` what it takes.
"""

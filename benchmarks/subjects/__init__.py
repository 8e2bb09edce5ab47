"""The subjects: one file each, with ``setup``, ``run`` and ``teardown``.

A subject runs in its own process and environment, driven by ``driver``. Subjects of other systems
import nothing of this project, which is not installed in their environments.
"""

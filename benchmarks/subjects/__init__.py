"""What is measured: one file a subject, each with ``setup``, ``run`` and ``teardown``.

A subject runs in a process of its own, in the environment it names, driven by ``driver``. Files of
other people's systems import nothing of this project, which their environments do not have.
"""

"""``python -m crucible`` is the ``crucible`` command."""

from crucible.cli.entry import main

main()

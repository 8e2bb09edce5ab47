"""``python -m crucible`` is the ``crucible`` command."""

from crucible.cli.main import main

main()

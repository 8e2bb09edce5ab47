"""Checks whether a machine can run Crucible, and says how to fix what is missing."""

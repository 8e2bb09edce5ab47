"""What an api process does during a migration: routing, copies, comparison, following."""

"""What operators do during a migration: compare, verify, recover, repair, drain."""

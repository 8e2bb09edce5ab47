"""What keeps messages from being lost: renewed leases, due delayed messages, recovered claims."""

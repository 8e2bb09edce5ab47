"""An operator's view of queues and dead letters."""

"""Server-sent events: what clients get of the event bus."""

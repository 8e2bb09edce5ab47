"""Remote control and events: what workers and operators say to each other."""

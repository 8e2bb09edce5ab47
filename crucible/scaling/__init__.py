"""How many workers there should be, from what waits and how long tasks take. Pure."""

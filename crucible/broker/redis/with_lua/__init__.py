"""The atomic operations as Lua scripts: one typed method a script."""

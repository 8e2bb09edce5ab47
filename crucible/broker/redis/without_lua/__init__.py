"""The atomic steps for servers without scripting: WATCH, MULTI and EXEC."""

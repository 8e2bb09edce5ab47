"""The battle with everything on: every process is killed, and every record of it is compared."""

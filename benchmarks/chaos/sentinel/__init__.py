"""Failovers under load: the master of three servers is killed, and its sentinels choose another."""

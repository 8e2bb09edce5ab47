"""Connections to the servers, and the atomic steps they are asked for."""

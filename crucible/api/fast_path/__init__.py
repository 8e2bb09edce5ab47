"""Submissions answered straight from the connection, around aiohttp's request machinery."""

"""Workflows: evaluations one after the other and beside one another, with outputs handed on."""

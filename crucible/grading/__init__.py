"""Grading: what a program's answers to many tests are worth. Pure; nothing here runs a program."""

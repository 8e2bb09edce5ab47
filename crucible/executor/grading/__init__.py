"""Grading on this machine: many tests in one sandbox, and checkers in sandboxes of their own."""

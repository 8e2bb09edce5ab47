"""Assessments: suites of evaluations that run in the background, with a score and a report."""

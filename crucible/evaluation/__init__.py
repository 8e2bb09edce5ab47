"""Evaluations: requests, records, tasks, results, completions, and the service for them."""

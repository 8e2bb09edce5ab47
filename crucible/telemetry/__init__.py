"""Metrics: what happened, in the words of Prometheus."""

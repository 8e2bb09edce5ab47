"""Metrics in Prometheus form; no other room imports ``prometheus_client``."""

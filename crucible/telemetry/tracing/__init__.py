"""Traces with OpenTelemetry; imported only where they are switched on."""

"""The service with everything on at half load for hours: what must stay flat."""

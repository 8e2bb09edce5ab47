"""The outage matrix: the queue server is away in every way, for every time, for each side."""

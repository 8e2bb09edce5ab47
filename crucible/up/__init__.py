"""``crucible up``: two servers, the api and a worker on one machine, in the foreground."""

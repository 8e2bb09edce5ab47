"""The whole set on one machine: two servers, the api and a worker, as one foreground command."""

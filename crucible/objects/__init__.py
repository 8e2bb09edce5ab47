"""Objects: outputs that are too large for Redis, in a directory or an S3-compatible store."""

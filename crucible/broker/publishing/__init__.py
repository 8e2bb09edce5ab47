"""Sending tasks: group commit, batches, the publisher."""

"""The revisions, from the first to the newest."""

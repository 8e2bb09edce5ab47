"""What a worker does for tasks that are part of chains, groups and chords."""

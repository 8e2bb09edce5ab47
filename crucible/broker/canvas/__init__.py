"""Chains, groups and chords: as data, as plans, and the part a worker plays in them."""

"""Chains, groups and chords: as data, as plans, and as effects of settlements."""

"""Running one task: its function called, its limits kept, its stop seen to."""

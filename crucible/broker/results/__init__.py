"""What tasks came to: stored metas, reading them, waiting for them by push."""

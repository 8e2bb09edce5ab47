"""Task messages byte for byte: reading and writing them, no I/O."""

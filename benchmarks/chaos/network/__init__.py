"""Several machines, as network namespaces: links are cut, healed and slow, and clocks differ."""

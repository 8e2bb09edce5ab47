"""Who asks: tenants, their keys, scopes and tiers."""

"""What a bundle is made of: spec, lock and the builder (stage "bundle", connected side)."""

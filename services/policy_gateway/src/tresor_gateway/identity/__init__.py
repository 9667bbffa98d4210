"""Who is asking: signing keys and access tokens."""

"""Proof that a site is watched: what Prometheus, Alertmanager and the journal say."""

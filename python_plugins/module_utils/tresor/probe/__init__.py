"""Network probes: which packets pass, which are dropped, and the proof that the prober works."""

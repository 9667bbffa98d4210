"""One file for each source of metrics."""

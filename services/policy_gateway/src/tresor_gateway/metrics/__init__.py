"""Counters and histograms in Prometheus text form."""

"""Fit the constants of the latency estimate to published figures, and say how well they carry over.

See docs/sizing-latency.md for the method and how to run it.
"""

"""Asks each engine of a host for a real answer, and starts one again that hangs."""

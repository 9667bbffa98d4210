"""Checks, and the evidence report that verify writes from them."""

"""Checks of the request path with real requests, forged tokens included."""

"""Supervisor, workers and their private channel."""

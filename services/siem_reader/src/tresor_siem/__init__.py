"""Reads a host's records, shapes them, keeps them in a spool until the collector has them.

Standard library only: it runs on the hosts' own Python (3.11 and newer).
"""

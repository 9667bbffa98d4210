"""The hash-chained audit log.

Nothing is imported here: ``tresor_gateway.audit.verify`` must run with the standard library alone.
"""

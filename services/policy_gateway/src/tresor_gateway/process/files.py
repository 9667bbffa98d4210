"""How many files (connections among them) a process may have open."""

from __future__ import annotations

import logging
import resource

from tresor_gateway import config_schema as schema

log = logging.getLogger(__name__)
# The audit log, libraries, probes and the like.
_OTHERS = 256


def raise_limit(config: schema.Config) -> None:
    """Raise the soft limit to the hard one; say so when even that is too low."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limits, upstream = config.limits, config.upstream
    engines = {replica.url for model in config.models for replica in model.replicas}
    wanted = limits.max_connections + limits.max_concurrent_requests + _OTHERS
    wanted += len(engines) * upstream.max_idle_connections
    if soft < min(wanted, hard):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard), hard))
            soft = min(wanted, hard)
        except (OSError, ValueError) as error:
            # A unit that forbids this sets the limit itself (LimitNOFILE).
            log.warning("limit of open files stays at %d: %s", soft, error)
    if soft < wanted:
        log.warning(
            "%d files may be open, and %d connections take up to %d: raise the hard limit "
            "(LimitNOFILE=) or lower limits.max_connections",
            soft,
            limits.max_connections,
            wanted,
        )

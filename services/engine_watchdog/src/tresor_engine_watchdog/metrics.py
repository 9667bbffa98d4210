"""Figures for the node exporter's directory of text files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from tresor_engine_watchdog.watch import Watch

_PREFIX = "tresor_engine_watchdog"


def text(watches: Mapping[str, Watch]) -> str:
    """Return the file: of each engine what it failed, what was done, and that somebody looks."""
    return "".join(
        [
            _family(
                "failures",
                "gauge",
                "Questions in a row without an answer and without a step of the engine.",
                ((name, watch.failures) for name, watch in watches.items()),
            ),
            _family(
                "restarts_total",
                "counter",
                "Restarts of an engine that hung.",
                ((name, watch.record.restarts) for name, watch in watches.items()),
            ),
            _family(
                "stopped",
                "gauge",
                "Whether an engine hung too often, was stopped, and waits for somebody.",
                ((name, int(watch.record.stopped)) for name, watch in watches.items()),
            ),
            _family(
                "last_look_timestamp_seconds",
                "gauge",
                "When an engine was last looked at.",
                ((name, int(watch.looked)) for name, watch in watches.items()),
            ),
        ]
    )


def _family(name: str, kind: str, told: str, values: Iterable[tuple[str, int]]) -> str:
    lines = [f"# HELP {_PREFIX}_{name} {told}", f"# TYPE {_PREFIX}_{name} {kind}"]
    # Not "instance": that label is Prometheus' own.
    lines += [f'{_PREFIX}_{name}{{engine="{engine}"}} {value}' for engine, value in sorted(values)]
    return "\n".join(lines) + "\n"

"""Figures for the node exporter's directory of text files."""

from __future__ import annotations

from collections import Counter

from tresor_gpu_watcher.state import State


def text(state: State, now: float) -> str:
    """Return the file: counts of XIDs and actions, and whether somebody has to look."""
    lines = [
        "# HELP tresor_gpu_xid_total XID errors that the kernel logged.",
        "# TYPE tresor_gpu_xid_total counter",
    ]
    lines += [
        f'tresor_gpu_xid_total{{pci="{pci}",xid="{code}"}} {count}'
        for (pci, code), count in sorted(state.xids.items())
    ]
    counts = Counter(word for _, word in state.actions)
    lines += [
        "# HELP tresor_gpu_watcher_actions_total Automatic actions.",
        "# TYPE tresor_gpu_watcher_actions_total counter",
        *(
            f'tresor_gpu_watcher_actions_total{{action="{w}"}} {n}'
            for w, n in sorted(counts.items())
        ),
        "# HELP tresor_gpu_watcher_drained Whether engines were stopped and wait for somebody.",
        "# TYPE tresor_gpu_watcher_drained gauge",
        f"tresor_gpu_watcher_drained {int(bool(state.drained) or state.capped)}",
        "# HELP tresor_gpu_watcher_capped Whether the daily cap of actions keeps it from acting.",
        "# TYPE tresor_gpu_watcher_capped gauge",
        f"tresor_gpu_watcher_capped {int(state.capped)}",
        "# HELP tresor_gpu_watcher_last_look_timestamp_seconds When the log was last looked at.",
        "# TYPE tresor_gpu_watcher_last_look_timestamp_seconds gauge",
        f"tresor_gpu_watcher_last_look_timestamp_seconds {now:.0f}",
    ]
    return "\n".join(lines) + "\n"

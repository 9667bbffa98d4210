"""Constants fitted on measured start-ups. Written by docs/tools/sizing_fit.py."""

from __future__ import annotations

VALUES: dict[str, float] = {
    "workspace": 0.0503,
    "forward": 0.0273,
    "encoder": 0.0661,
    "non_torch_old": 0.13,
    "non_torch_tp_old": 0.54,
    "non_torch_tp": 1.9833,
    "non_torch_tp_rank": 0.0467,
    "graph_base": 0.2398,
    "graph_layer": 0.0144,
    "graph_hidden": 0.5341,
    "graph_tp": -0.1849,
    "graph_expert": 0.1037,
    "warm_up_logit_bytes": 8.3229,
}

"""The verdict in an operator's words."""

from __future__ import annotations

from typing import Final

from .predict import Seen
from .promise import MARGIN, Load, Promise

_NAMES: Final = {
    "reachable": "reachable",
    "uncertain": "not certain",
    "not_reachable": "not reachable",
}


def verdict(outcome: str, promise: Promise, load: Load, seen: Seen) -> str:
    """Return one sentence: what was asked, and the answer."""
    answer = seen.answer
    return (
        f"{_NAMES[outcome]}: {answer['model']} on {answer['gpus']}x {answer['gpu']} with "
        f"{load.users} users would need {_seconds(seen.ttft_p95)} to the first token and "
        f"{_seconds(seen.e2e_p95)} to the whole answer at the 95th percentile; promised are "
        f"{_seconds(promise.ttft_p95_ms)} and {_seconds(promise.e2e_p95_ms)}"
    )


def because(outcome: str, promise: Promise, load: Load, seen: Seen) -> list[str]:
    """Return the reasons, the one that no number of replicas cures first."""
    if outcome == "reachable":
        return [f"both limits hold with {100 * MARGIN:.0f} % to spare for the model's error"]
    reasons = []
    answer, alone = seen.answer, seen.alone
    spare = promise.e2e_p95_ms - seen.floor_ttft
    tokens = max(1.0, load.output_tokens_p95 - 1)
    if seen.floor_excess(promise) * (1 + MARGIN) > 1:
        reasons.append(
            f"even one user alone waits {_seconds(seen.floor_e2e)} "
            f"({seen.floor_ttft:.0f} ms to the first token, then {alone['itl_ms']:.1f} ms per "
            f"token; the promise leaves {max(0.0, spare) / tokens:.1f} ms per token): "
            "more replicas do not help"
        )
        reasons.append(
            f"each token reads {alone['weights_gib_per_gpu']:.1f} GiB of weights on every GPU; "
            f"bound by {alone['bound_by']}"
        )
    else:
        reasons.append(
            f"one user alone would get it ({_seconds(seen.floor_e2e)}), but {seen.inside:.0f} "
            f"users at a time slow a token from {alone['itl_ms']:.1f} to {seen.itl:.1f} ms; "
            f"bound by {answer['bound_by']}"
        )
    if answer["queued_users"] >= 1:
        reasons.append(
            f"{answer['queued_users']:.0f} users wait for a slot: the KV cache and max_num_seqs "
            f"hold {answer['max_running_sequences']:.0f} requests of this length at a time"
        )
    if outcome == "uncertain":
        reasons.append(
            f"the limits hold on paper, with less to spare than the model's error "
            f"({100 * MARGIN:.0f} %): measure before promising"
        )
    return reasons


def _seconds(milliseconds: float) -> str:
    if milliseconds < 1000:
        return f"{milliseconds:.0f} ms"
    return f"{milliseconds / 1000:.2f} s"

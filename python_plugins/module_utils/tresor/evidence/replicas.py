"""Judge from the engines' own counters that each replica of a model took requests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .check import Check, not_run


def judge_replicas(
    model: str, instances: Sequence[str], before: Mapping[str, float], after: Mapping[str, float]
) -> list[Check]:
    """Return one check per instance.

    Args:
        before: requests each instance had served before the requests of this run.
        after: the same afterwards.
    """
    checks: list[Check] = []
    for instance in instances:
        check_id, what = f"replica.{model}.{instance}", "the replica answered requests of this run"
        if instance not in before or instance not in after:
            reason = "its request counter could not be read before and after the requests"
            checks.append(not_run(check_id, what, reason, target=instance))
            continue
        rose = after[instance] - before[instance]
        checks.append(
            Check(
                id=check_id,
                what=what,
                source="gateway",
                target=instance,
                expected="at least 1 request",
                observed=f"{rose:g} requests",
                ok=rose >= 1,
            )
        )
    return checks

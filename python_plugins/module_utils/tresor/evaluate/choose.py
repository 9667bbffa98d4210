"""Which instances of the plan are compared, and whether that comparison means something."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from ..sizing.errors import ModelError
from ..sizing.model.catalogue import find
from .errors import InstanceError


def choose(
    plan: Mapping[str, Any], names: Mapping[str, str], *, different_models: bool = False
) -> dict[str, dict[str, Any]]:
    """Return the plan's instance of each role: reference, candidate, and judge if named.

    Raises:
        InstanceError: an unknown instance, twice the same, no chat model, or two models where one
            was meant.
    """
    known = {instance["id"]: instance for instance in plan["instances"]}
    found: dict[str, dict[str, Any]] = {}
    for role in ("reference", "candidate", "judge"):
        name = names.get(role) or ""
        if not name and role == "judge":
            continue
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise InstanceError(
                f"the {role} is {name!r}, no instance of the plan: {hint}"
                f"It has {', '.join(sorted(known))}"
            )
        if known[name]["task"] != "chat":
            raise InstanceError(
                f"the {role} {name} serves {known[name]['task']}: only chat models can be compared"
            )
        found[role] = known[name]
    if found["reference"]["id"] == found["candidate"]["id"]:
        raise InstanceError(
            f"reference and candidate are both {names['reference']}: name two instances"
        )
    models = {
        role: _model(plan["sizing"]["instances"][found[role]["id"]]["architecture"])
        for role in ("reference", "candidate")
    }
    if models["reference"] != models["candidate"] and not different_models:
        raise InstanceError(
            f"reference {names['reference']} is {models['reference']}, candidate "
            f"{names['candidate']} is {models['candidate']}: two precisions of one model are "
            "compared. Set evaluation_different_models to compare two models"
        )
    return found


def _model(architecture: str) -> str:
    """Return the catalogue's name: that of a quantized copy is the name of its model."""
    try:
        return find(architecture).name
    except ModelError:
        return architecture

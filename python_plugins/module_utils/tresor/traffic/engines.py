"""What the plan says of the engines that answered: model, class, GPUs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from .errors import TrafficError

CLASSES: Final = ("large", "medium", "small")


@dataclass(frozen=True)
class Engine:
    """One instance of the plan.

    `devices` are its GPUs; a GPU that several instances share counts in parts. An engine on the CPU
    is one device.
    """

    instance: Mapping[str, Any]
    address: str
    model: str
    devices: float
    on_gpu: bool


@dataclass(frozen=True)
class Site:
    """The models of the plan by name, and its engines by the address that audit records have."""

    plan: Mapping[str, Any]
    models: Mapping[str, Mapping[str, Any]]
    engines: Mapping[str, Engine]

    def base(self, model: str) -> str:
        """Return the model that computes: an adapter's own model."""
        return str(self.models.get(model, {}).get("adapter_of", model))

    def part(self, model: str) -> str:
        """Return the model's class: large, medium or small, else a dash."""
        found = str(self.models.get(self.base(model), {}).get("class", ""))
        return found if found in CLASSES else "-"

    def largest(self) -> str | None:
        """Return the chat model that `auto` spares: of class large, else of the most weights."""
        chat = [
            name
            for name, model in self.models.items()
            if model["task"] == "chat" and "adapter_of" not in model and model["instances"]
        ]
        large = [name for name in chat if self.part(name) == "large"]
        return max(large or chat, key=self._weights, default=None)

    def of_model(self, model: str) -> list[Engine]:
        """Return the engines of a model, in order of their addresses."""
        return [one for _, one in sorted(self.engines.items()) if one.model == model]

    def _weights(self, model: str) -> float:
        sizing = self.plan["sizing"]["instances"]
        return max(
            float(sizing[id_]["weights_gib_per_gpu"])
            * int(sizing[id_]["tensor_parallel_size"])
            * int(sizing[id_]["pipeline_parallel_size"])
            for id_ in self.models[model]["instances"]
        )


def site_of(plan: Mapping[str, Any]) -> Site:
    """Return models and engines of a resolved plan.

    Raises:
        TrafficError: it is no plan.
    """
    try:
        sizing = plan["sizing"]["instances"]
        shared = Counter(
            (instance["host"], gpu)
            for instance in plan["instances"]
            for gpu in sizing[instance["id"]]["gpus"]
        )
        engines = {}
        for instance in plan["instances"]:
            gpus = sizing[instance["id"]]["gpus"]
            devices = sum(1 / shared[instance["host"], gpu] for gpu in gpus) if gpus else 1.0
            address = f"{plan['hosts'][instance['host']]['fqdn']}:{instance['port']}"
            engines[address] = Engine(instance, address, instance["model"], devices, bool(gpus))
        return Site(plan, {model["name"]: model for model in plan["models"]}, engines)
    except (KeyError, TypeError, AttributeError) as error:
        raise TrafficError(
            f"the plan lacks or mistakes {error}: resolve it again with tresor plan"
        ) from None

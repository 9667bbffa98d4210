"""Models as users name them, and where they are served."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tresor_gateway import config_schema as schema
from tresor_gateway.upstream.pool import EnginePool, Replica


@dataclass(frozen=True)
class Model:
    """One entry of the catalogue."""

    name: str
    task: str
    replicas: tuple[Replica, ...]
    context_tokens: int | None
    artefact_digest: str
    affinity: bool = False
    fallback: str | None = None


class Catalogue:
    """Finds a model by its name or one of its aliases."""

    def __init__(self, models: Iterable[schema.Model], pool: EnginePool) -> None:
        self._models: dict[str, Model] = {}
        self.tasks: dict[str, str] = {}
        self.models: list[Model] = []
        for entry in models:
            digest = entry.artefact_digest or ""
            compared = any(replica.variant is not None for replica in entry.replicas)
            model = Model(
                entry.name,
                entry.task,
                tuple(
                    pool.replica(replica, entry.name, digest, compared=compared)
                    for replica in entry.replicas
                ),
                entry.context_tokens,
                digest,
                entry.affinity,
                entry.fallback,
            )
            self.models.append(model)
            self.tasks[entry.name] = entry.task
            for name in (entry.name, *entry.aliases):
                self._models[name] = model

    def find(self, name: str) -> Model | None:
        """The model, or none."""
        return self._models.get(name)

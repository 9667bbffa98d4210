"""What must hold for replicas that serve something else in their model's place."""

from __future__ import annotations

from collections.abc import Iterator

from tresor_gateway import config_schema as schema


def problems(config: schema.Config) -> Iterator[str]:
    """What is wrong, one message each."""
    owners = {name: model for model in config.models for name in (model.name, *model.aliases)}
    varied: set[str] = set()
    for index, model in enumerate(config.models):
        if any(replica.variant is not None for replica in model.replicas):
            varied.add(model.name)
            yield from _names(f"models[{index}]", model, owners)
            yield from _model(f"models[{index}]", model)
    for index, classifier in enumerate(config.classifiers):
        if classifier.model in varied:
            yield (
                f"classifiers[{index}].model: value {classifier.model!r}: has variants, and a "
                "verdict must not depend on which one is met; name a model without variants"
            )


def _names(where: str, model: schema.Model, owners: dict[str, schema.Model]) -> Iterator[str]:
    """A variant may be a model of its own, too, but no other one than this could have been."""
    for number, replica in enumerate(model.replicas):
        other = owners.get(replica.variant or "")
        if other is None:
            continue
        key = f"{where}.replicas[{number}].variant: value {replica.variant!r}"
        if other is model:
            yield f"{key}: is the model itself; remove it, or name what this replica serves"
        elif other.task != model.task:
            yield f"{key}: has task {other.task!r}, the model {model.task!r}; name another one"
        elif other.name == model.fallback:
            yield f"{key}: is the model's fallback, too; name another fallback"


def _model(where: str, model: schema.Model) -> Iterator[str]:
    own = [replica for replica in model.replicas if replica.variant is None]
    if not own:
        yield f"{where}.replicas: all have a variant; one must serve the model itself"
    elif all(replica.weight == 0 for replica in own):
        yield f"{where}.replicas: the model's own have weight 0; give one of them more"
    if not model.affinity:
        yield f"{where}.affinity: value False: a conversation stays with its variant; write true"

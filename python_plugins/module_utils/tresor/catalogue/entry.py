"""Read an entry of the catalogue and check it: by schema, against vLLM's names, and in itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from ..inventory.document import Document, KeyPath, read_document
from ..inventory.problems import Problem, one_of
from ..inventory.schema_check import Schema, value_problems
from ..inventory.vllm_arguments import argument_fault, environment_fault
from ..sizing.gpu import UnknownGpuError, find
from .contradictions import POOLING, contradictions
from .speculation import METHODS, method_fault
from .vllm_names import LORA_RANKS, QUANTIZATIONS

Entry = Mapping[str, Any]
_TASKS: Final = {"embedding": "embedding", "rerank": "rerank"}


def names(folder: Path) -> list[str]:
    """Return the names of the entries of a folder."""
    return sorted(path.stem for path in folder.glob("*.yml"))


def read_entry(folder: Path, name: str, schema: Schema) -> tuple[Entry | None, list[Problem]]:
    """Return an entry, or None and what is wrong with it."""
    document, problems = read_document(folder, f"{name}.yml")
    if document is None:
        return None, problems
    problems += value_problems(document, (), document.data, schema)
    if not problems:
        problems += _rules(document, name, names(folder))
    return (None, problems) if problems else (document.data, [])


def checkpoint_of(entry: Entry, name: str | None) -> Mapping[str, Any] | None:
    """Return the checkpoint of that name, the recommended one for None; None if there is none."""
    for checkpoint in entry["checkpoints"]:
        if name is None or checkpoint["name"] == name:
            found: Mapping[str, Any] = checkpoint
            return found
    return None


def architecture_of(checkpoint: Mapping[str, Any]) -> str:
    """Return the name that the sizing knows a checkpoint by."""
    return str(checkpoint.get("architecture", checkpoint["repository"]))


def _rules(document: Document, name: str, known: list[str]) -> Iterator[Problem]:
    entry: Entry = document.data
    if entry["name"] != name:
        yield document.problem(("name",), "is not the file's name", f"write {name}")
    yield from _engine(document, entry)
    yield from _task(document, entry)
    yield from _layouts(document, entry)
    fallback = entry["gateway"].get("fallback")
    if fallback is not None and (fallback == name or fallback not in known):
        wrong = "is the entry itself" if fallback == name else "is no entry of the catalogue"
        fix = one_of([other for other in known if other != name], fallback)
        yield document.problem(("gateway", "fallback"), wrong, fix)


def _engine(document: Document, entry: Entry) -> Iterator[Problem]:
    engine, context = entry["engine"], entry["context_tokens"]
    for option, value in engine["args"].items():
        fault = argument_fault(option, value)
        if fault:
            yield document.problem(("engine", "args", option), *fault)
    for option, wrong, fix in contradictions(engine["args"], entry["task"], context["planned"]):
        yield document.problem(("engine", "args", option), wrong, fix)
    for variable in engine.get("env", {}):
        fault = environment_fault(variable)
        if fault:
            yield document.problem(("engine", "env", variable), *fault)
    speculative = entry.get("speculative")
    if speculative:
        method = speculative["method"]
        refused = method_fault(method, drafted="repository" in speculative)
        if refused:
            fix = one_of(METHODS, method) if method not in METHODS else "correct repository"
            yield document.problem(("speculative", "method"), refused, fix)
    rank = entry.get("lora", {}).get("max_rank")
    if rank is not None and rank not in LORA_RANKS:
        allowed = ", ".join(str(value) for value in sorted(LORA_RANKS))
        path: KeyPath = ("lora", "max_rank")
        yield document.problem(path, "is no rank that vLLM takes", f"write one of {allowed}")
    if context["planned"] > context["published"]:
        wrong = f"is more than the published {context['published']}"
        fix = f"write {context['published']} or less"
        yield document.problem(("context_tokens", "planned"), wrong, fix)


def _task(document: Document, entry: Entry) -> Iterator[Problem]:
    task = _TASKS.get(entry["kind"], "chat")
    if entry["task"] != task:
        yield document.problem(("task",), f"does not fit the kind {entry['kind']}", f"write {task}")
    pooling = task in POOLING
    if pooling != (entry["chat_template"] == "none"):
        fix = "write none" if pooling else "write checkpoint or tokenizer"
        yield document.problem(("chat_template",), f"does not fit the task {task}", fix)
    if not pooling:
        return
    for key in ("speculative", "lora"):
        if key in entry:
            yield document.problem((key,), f"does not fit the task {task}", "remove it")
    if entry["gateway"]["auto"] != "none":
        yield document.problem(("gateway", "auto"), f"does not fit the task {task}", "write none")


def _layouts(document: Document, entry: Entry) -> Iterator[Problem]:
    checkpoints = [checkpoint["name"] for checkpoint in entry["checkpoints"]]
    for index, checkpoint in enumerate(entry["checkpoints"]):
        method = checkpoint["quantization"]
        if method != "none" and method not in QUANTIZATIONS:
            path: KeyPath = ("checkpoints", index, "quantization")
            wrong = "is no quantization of the supported versions of vLLM"
            yield document.problem(path, wrong, one_of(("none", *QUANTIZATIONS), method))
        if checkpoint["name"] in checkpoints[:index]:
            path = ("checkpoints", index, "name")
            yield document.problem(path, "stands twice", "write a name of its own")
    for index, layout in enumerate(entry["layouts"]):
        if layout["checkpoint"] not in checkpoints:
            path = ("layouts", index, "checkpoint")
            fix = one_of(checkpoints, layout["checkpoint"])
            yield document.problem(path, "is none of the entry's checkpoints", fix)
        ranks, nodes = layout["tensor"] * layout["pipeline"], layout.get("nodes", 1)
        if ranks % nodes:
            path = ("layouts", index, "nodes")
            wrong = f"{nodes} hosts cannot share {ranks} ranks equally"
            yield document.problem(path, wrong, "write a number that divides them")
        try:
            find(layout["gpu"])
        except UnknownGpuError as error:
            path = ("layouts", index, "gpu")
            yield document.problem(path, str(error), "write a card of the sizing's catalogue")

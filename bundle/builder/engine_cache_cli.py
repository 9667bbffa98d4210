"""Command line of ``engine-cache``."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from pathlib import Path

from bundle.builder import engine_cache
from bundle.builder.errors import LockError, SpecError
from bundle.builder.lock import HEADER, LockDir, PartLock, next_header
from bundle.builder.progress import say
from bundle.builder.resolver import Resolver


def options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--part", required=True, help="name of the part in the spec")
    parser.add_argument(
        "--from", dest="source", type=Path, required=True, help="VLLM_CACHE_ROOT of the build host"
    )
    parser.add_argument(
        "--environment", required=True, help="as in models.yml, for example vllm-cuda"
    )
    parser.add_argument("--model", required=True, help="artefact of the model")
    parser.add_argument("--gpu", required=True, help="type of GPU as in hosts.yml")
    parser.add_argument(
        "--capability", required=True, help="its compute capability, for example 9.0"
    )
    parser.add_argument("--driver", required=True, help="exact version of the driver")
    parser.add_argument(
        "--engine", type=Path, required=True, help="the instance of the plan (JSON) that was run"
    )


def run(args: argparse.Namespace, resolver: Resolver, folder: LockDir) -> int:
    """Take the cache and write the part's lock.

    Raises:
        BuilderError: wrong part, wrong values, or a file that is not one of a cache.
    """
    part = resolver.spec.part(args.part)
    if part.type != "engine_cache":
        raise SpecError(f"part {part.name} is of type {part.type}, not engine_cache")
    environment = resolver.spec.part(f"wheels-{args.environment}")
    if environment.want.get("projects") or environment.want.get("metadata_wheels"):
        raise SpecError(f"{environment.name} has wheels made here: no engine runs in it")
    taken = engine_cache.Taken(
        args.source,
        args.gpu,
        args.capability,
        args.driver,
        args.environment,
        args.model,
        args.engine,
        _locked(folder, environment.name),
        _locked(folder, f"model-{args.model}"),
    )
    lock = engine_cache.take(part, taken, resolver.store, resolver.inputs(part))
    if not folder.write(part.name, lock.dump()):
        say(f"{part.name}: the lock is current")
        return 0
    header = next_header(folder.header(), datetime.now(UTC), resolver.spec.valid_days)
    folder.write(HEADER, header.dump())
    digest = lock.file("cache.json").sha256
    say(f"{part.name}: taken. Engines run it unseen: to allow it, add to the spec's policy rule")
    say(f"caches.code, package {part.name}, values [{digest}], with the reason")
    return 0


def _locked(folder: LockDir, name: str) -> PartLock:
    lock = folder.read(name)
    if lock is None:
        raise LockError(
            f"part {name} has no lock: run 'python -m bundle.builder lock --part {name}'"
        )
    return lock

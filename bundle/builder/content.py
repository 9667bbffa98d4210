"""What a part consists of in the bundle: paths, sizes, digests, all present in the cache."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from bundle.builder import (
    ansible_collections,
    chat_templates,
    debrepo,
    debs,
    distribution,
    metadata_wheel,
    models,
    npm,
    projects,
    shards,
    wheels,
)
from bundle.builder.blobs import Blob, BlobStore
from bundle.builder.errors import SpecError
from bundle.builder.lock import HeaderLock, LockedFile, PartLock
from bundle.builder.resolver import Resolver
from bundle.builder.spec import PartSpec


@dataclass(frozen=True, slots=True)
class PartContent:
    """A part ready to be carried: its entry for the manifest, and a model's beside it."""

    entry: Mapping[str, Any]
    model: Mapping[str, Any] | None = None


class Maker:
    """Makes the content of parts from their locks and the working tree."""

    def __init__(
        self, resolver: Resolver, header: HeaderLock, locks: Mapping[str, PartLock]
    ) -> None:
        self._resolver = resolver
        self._store: BlobStore = resolver.store
        self._header = header
        self._locks = locks

    def make(self, part: PartSpec) -> PartContent:
        """Return the content of ``part``.

        Raises:
            BuilderError: an input is missing or not what the lock says.
        """
        model: Mapping[str, Any] | None = None
        match part.type:
            case "debs":
                files = self._debs(part, self._locks[part.name])
            case "wheels":
                files = self._wheels(part, self._locks[part.name])
            case "npm":
                files = self._npm(self._locks[part.name])
            case "collections":
                wanted = self._resolver.collections(part)
                entries = ansible_collections.files(self._locks[part.name], wanted, self._store)
                files = {entry.file: entry.blob for entry in entries}
            case "binaries" | "engine_cache":
                files = {entry.file: entry.blob for entry in self._locks[part.name].files}
            case "model":
                files, model = self._model(part, self._locks[part.name])
            case "distribution":
                root = self._resolver.context.root
                entries = distribution.files(root, part.want["include"], self._store)
                files = {entry.file: entry.blob for entry in entries}
            case other:
                raise SpecError(f"part {part.name}: type {other!r} cannot be built")
        entry: dict[str, Any] = {
            "name": part.name,
            "type": part.type,
            "scope": part.manifest_scope,
            "files": [
                shards.file_entry(path, blob, self._store) for path, blob in sorted(files.items())
            ],
        }
        if part.name in self._locks:
            entry["lock"] = self._locks[part.name].digest()
        return PartContent(entry, model)

    def _debs(self, part: PartSpec, lock: PartLock) -> dict[str, Blob]:
        architecture = part.want["architecture"]
        files = {f"pool/{entry.file}": entry.blob for entry in lock.files}
        with ThreadPoolExecutor(2) as pool:
            controls = list(pool.map(self._control, lock.files))
        rows = [
            (control, f"pool/{entry.file}", entry.size, entry.sha256)
            for control, entry in zip(controls, lock.files, strict=True)
        ]
        index = debrepo.packages_text(rows).encode()
        path = debrepo.PACKAGES_PATH.format(architecture=architecture)
        release = debrepo.release_text(
            {path.removeprefix("dists/site/"): index},
            architecture=architecture,
            label=part.name.removeprefix("debs-"),
            created=self._header.created,
        )
        files[path] = self._store.add_bytes(index)
        files[debrepo.RELEASE_PATH] = self._store.add_bytes(release.encode())
        for item in lock.details["evidence"]:
            suite = item["suite"]
            files[f"evidence/{suite}.InRelease"] = Blob(item["sha256"], item["size"])
        return files

    def _control(self, entry: LockedFile) -> str:
        cache = self._store.cache / "results" / "deb-control" / entry.sha256
        try:
            return cache.read_text(encoding="utf-8")
        except FileNotFoundError:
            text = debs.control_text(self._store.path(entry.sha256))
        cache.parent.mkdir(parents=True, exist_ok=True)
        temporary = cache.with_suffix(".new")
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(cache)
        return text

    def _wheels(self, part: PartSpec, lock: PartLock) -> dict[str, Blob]:
        entries = [*lock.files]
        for item in part.want.get("metadata_wheels", []):
            file, raw = metadata_wheel.build(
                item["name"], item["version"], item.get("extras", []), item["summary"]
            )
            blob = self._store.add_bytes(raw)
            entries.append(LockedFile(item["name"], item["version"], file, blob.size, blob.sha256))
        for project in part.want.get("projects", []):
            folder = self._resolver.context.root / project
            entries.append(projects.build_wheel(folder, self._store))
        requirements = wheels.requirements_text(entries).encode()
        version = {entry.name: entry.version for entry in entries}.get(part.want["version_of"])
        if version is None:
            raise SpecError(f"{part.name}: version_of names no package of the environment")
        environment = {
            "name": part.name.removeprefix("wheels-"),
            "version": version,
            "python": part.want["python"],
            "requirements_sha256": hashlib.sha256(requirements).hexdigest(),
        }
        files = {entry.file: entry.blob for entry in entries}
        files["requirements.txt"] = self._store.add_bytes(requirements)
        text = json.dumps(environment, indent=2, sort_keys=True) + "\n"
        files["environment.json"] = self._store.add_bytes(text.encode())
        return files

    def _npm(self, lock: PartLock) -> dict[str, Blob]:
        files = {entry.file: entry.blob for entry in lock.files}
        files["package-tree.json"] = self._store.add_bytes(npm.package_tree(lock))
        return files

    def _model(self, part: PartSpec, lock: PartLock) -> tuple[dict[str, Blob], Mapping[str, Any]]:
        made = self._resolver.make_model(part, lock, self._locks)
        if "outputs" in lock.details:
            models.check_outputs(part.name, made, lock.details["outputs"])
        chat_templates.check(part.name, made, self._store)
        source = part.want["source"]
        entry: dict[str, Any] = {
            "name": part.name.removeprefix("model-"),
            # Weights from a package have no revision of their own: its digest is one.
            "revision": source.get("revision", lock.files[0].sha256[:40]),
            "format": "safetensors",
            "license": part.want["license"],
        }
        template = models.template_digest(made, self._store)
        if template:
            entry["template_sha256"] = template
        return {item.file: item.blob for item in made}, entry

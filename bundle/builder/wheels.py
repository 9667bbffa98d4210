"""Wheel environments: resolve with uv, choose the one wheel the target takes, fetch with pip."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import canonicalize_name, parse_wheel_filename

from bundle.builder.blobs import Blob, BlobStore, hash_file
from bundle.builder.command import run, uv_program
from bundle.builder.context import require_space
from bundle.builder.errors import CommandError, FetchError, LockError
from bundle.builder.lock import LockedFile, PartLock
from bundle.builder.pip_sources import PipSources, pip_sources
from bundle.builder.progress import Progress

_BATCH_BYTES = 64_000_000
_BATCH_FILES = 12
_OLDEST_GLIBC = 5  # manylinux1
_MAX_UV_GLIBC = 40  # the newest manylinux uv has a name for
_LEGACY = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}

NO_LOCAL_TORCH = (
    "torch with a local version such as +cpu is not on the public index. Add a source that has it "
    "to pip's own configuration, for example a folder with the wheel: "
    "'pip config set global.find-links /path/to/folder', or the index of its maker: "
    "'pip config set global.extra-index-url <index>', then run the command again"
)


@dataclass(frozen=True, slots=True)
class Target:
    """The interpreter that will install the wheels: CPython version and glibc, x86_64."""

    python: str
    glibc: str

    def platforms(self) -> list[str]:
        """Return pip's platform names, best first."""
        newest = int(self.glibc.split(".")[1])
        names: list[str] = []
        for minor in range(newest, _OLDEST_GLIBC - 1, -1):
            names.append(f"manylinux_2_{minor}_x86_64")
            if minor in _LEGACY:
                names.append(f"{_LEGACY[minor]}_x86_64")
        return [*names, "linux_x86_64"]

    def tags(self) -> list[Tag]:
        """Return the wheel tags the target accepts, best first."""
        major, minor = (int(part) for part in self.python.split("."))
        interpreter = f"cp{major}{minor}"
        platforms = self.platforms()
        return [
            *cpython_tags((major, minor), platforms=platforms),
            *compatible_tags((major, minor), interpreter, platforms),
        ]

    def uv_platform(self) -> str:
        """Return uv's name for the platform."""
        minor = min(int(self.glibc.split(".")[1]), _MAX_UV_GLIBC)
        return f"x86_64-manylinux_2_{minor}"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A wheel that the resolver knows of; ``size`` is None where the source does not tell it."""

    name: str
    version: str
    file: str
    sha256: str
    size: int | None
    local: Path | None


def resolve(
    want: Mapping[str, Any],
    requirements: Sequence[str],
    constraints: Sequence[str],
    folder: Path,
    *,
    closure: bool = True,
) -> list[Candidate]:
    """Return one wheel per package, sorted by name.

    Args:
        want: python, glibc, overrides, excludes of the part.
        requirements: what to install.
        constraints: versions to keep to where a package is needed at all.
        folder: an empty working folder.
        closure: with what the requirements need in turn; without for a wheel that is only opened.

    Raises:
        FetchError: no solution, or a package without a usable wheel.
    """
    target = Target(want["python"], want["glibc"])
    sources = pip_sources()
    args = [uv_program(), "--no-config", "pip", "compile", "-q", "--no-header", "--no-annotate"]
    args += ["--python-version", target.python, "--python-platform", target.uv_platform()]
    args += ["--only-binary", ":all:", "--format", "pylock.toml"]
    args += [] if closure else ["--no-deps"]
    for option, lines in (
        ("--overrides", want.get("overrides", [])),
        ("--excludes", want.get("excludes", [])),
        ("--constraints", constraints),
    ):
        if lines:
            path = folder / f"{option[2:]}.txt"
            path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
            args += [option, str(path)]
    text = _compile(args, sources, requirements, want)
    return choose(text, target)


def _compile(
    args: Sequence[str],
    sources: PipSources,
    requirements: Sequence[str],
    want: Mapping[str, Any],
) -> str:
    stdin = "".join(f"{line}\n" for line in requirements)
    # The plain index first: extra indexes are often stale mirrors and are asked only when needed.
    rounds = (False, True) if sources.extra_indexes else (False,)
    failure: CommandError | None = None
    for extra in rounds:
        try:
            return run([*args, *sources.uv_args(extra=extra), "-"], what=want["name"], stdin=stdin)
        except CommandError as error:
            failure = failure or error
    hint = ""
    if any("+" in line for line in [*requirements, *want.get("overrides", [])]):
        hint = f"\n{NO_LOCAL_TORCH}"
    raise FetchError(f"{failure}{hint}") from failure


def choose(pylock: str, target: Target) -> list[Candidate]:
    """Pick from a ``pylock.toml`` the wheel that pip would install on the target.

    Raises:
        FetchError: a package has no wheel that fits the target.
    """
    order = {tag: rank for rank, tag in enumerate(target.tags())}
    chosen: list[Candidate] = []
    for package in tomllib.loads(pylock).get("packages", []):
        best: tuple[int, Candidate] | None = None
        for wheel in package.get("wheels", []):
            candidate = _candidate(package, wheel)
            tags = parse_wheel_filename(candidate.file)[3]
            rank = min((order[tag] for tag in tags if tag in order), default=None)
            if rank is not None and (best is None or rank < best[0]):
                best = (rank, candidate)
        if best is None:
            raise FetchError(
                f"{package['name']} {package.get('version')} has no wheel for Python "
                f"{target.python} with glibc {target.glibc}: choose another version in the spec"
            )
        chosen.append(best[1])
    return sorted(chosen, key=lambda candidate: candidate.name)


def _candidate(package: Mapping[str, Any], wheel: Mapping[str, Any]) -> Candidate:
    parts = urlsplit(wheel.get("url", ""))
    path = unquote(parts.path) or wheel.get("path", "")
    return Candidate(
        name=canonicalize_name(package["name"]),
        version=package["version"],
        file=wheel.get("name") or path.rsplit("/", 1)[-1],
        sha256=wheel["hashes"]["sha256"],
        size=wheel.get("size"),
        local=Path(path) if parts.scheme == "file" else None,
    )


def lock_files(candidates: Iterable[Candidate], store: BlobStore) -> tuple[LockedFile, ...]:
    """Return lock entries; sizes that the source did not tell come from the file itself."""
    entries: list[LockedFile] = []
    for item in candidates:
        size = item.size
        if size is None and item.local is not None and item.local.is_file():
            blob = store.add_file(item.local)
            if blob.sha256 != item.sha256:
                raise LockError(f"{item.local}: digest is {blob.sha256}, not {item.sha256}")
            size = blob.size
        if size is None:
            raise LockError(f"{item.file}: the index tells no size, so it cannot be locked")
        entries.append(LockedFile(item.name, item.version, item.file, size, item.sha256))
    return tuple(entries)


def fetch(lock: PartLock, target: Target, store: BlobStore, jobs: int) -> None:
    """Bring the missing wheels of a lock into the cache with ``pip download``.

    pip runs in batches side by side; a finished batch stays when another one fails.

    Raises:
        FetchError: pip could not get a wheel.
        DigestError: a wheel is not what the lock says.
    """
    missing = [entry for entry in lock.files if not store.has(entry.blob)]
    if not missing:
        return
    total = sum(entry.size for entry in missing)
    require_space(store.cache, total * 2 + 200_000_000, f"fetching {lock.part}")
    with (
        Progress(f"fetch {lock.part}", len(missing), total) as progress,
        ThreadPoolExecutor(jobs) as pool,
    ):
        waiting = [
            pool.submit(_fetch_batch, lock.part, batch, target, store, progress)
            for batch in batches(missing)
        ]
        try:
            for done in as_completed(waiting):
                done.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def batches(entries: Sequence[LockedFile]) -> list[list[LockedFile]]:
    """Group entries so that one pip run stays short; the big ones come first."""
    result: list[list[LockedFile]] = []
    size = 0
    for entry in sorted(entries, key=lambda entry: (-entry.size, entry.file)):
        if not result or len(result[-1]) >= _BATCH_FILES or size + entry.size > _BATCH_BYTES:
            result.append([])
            size = 0
        result[-1].append(entry)
        size += entry.size
    return result


def _fetch_batch(
    part: str,
    batch: Sequence[LockedFile],
    target: Target,
    store: BlobStore,
    progress: Progress,
) -> None:
    with store.workdir("wheels") as folder:
        (folder / "tmp").mkdir()
        wanted = folder / "requirements.txt"
        wanted.write_text(requirements_text(batch), encoding="utf-8")
        args = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--require-hashes"]
        args += ["--only-binary=:all:", "--no-cache-dir", "--python-version", target.python]
        for platform in target.platforms():
            args += ["--platform", platform]
        args += ["-d", str(folder / "got"), "-r", str(wanted)]
        try:
            run(args, what=f"fetch {part}", env={"TMPDIR": str(folder / "tmp")})
        except CommandError as error:
            hint = f"\n{NO_LOCAL_TORCH}" if any("+" in entry.version for entry in batch) else ""
            raise FetchError(f"{error}{hint}") from error
        for entry in batch:
            path = folder / "got" / entry.file
            if not path.is_file():
                raise FetchError(f"{part}: pip delivered no file {entry.file}")
            store.add_file(path, entry.blob)
            progress.add(1, entry.size)


def requirements_text(entries: Iterable[LockedFile]) -> str:
    """Return a hash-checked requirements file, sorted, one line per wheel."""
    lines = {f"{entry.name}=={entry.version} --hash=sha256:{entry.sha256}" for entry in entries}
    return "".join(f"{line}\n" for line in sorted(lines))


def link_wheels(entries: Iterable[LockedFile], store: BlobStore, folder: Path) -> None:
    """Lay wheels out under their file names (symbolic links), as installers want them."""
    folder.mkdir(parents=True, exist_ok=True)
    for entry in entries:
        (folder / entry.file).symlink_to(store.path(entry.sha256))


def wheel_entry(path: Path, store: BlobStore) -> LockedFile:
    """Store a wheel that was built here and return its entry."""
    name, version, _, _ = parse_wheel_filename(path.name)
    file = path.name
    blob: Blob = store.add_file(path, hash_file(path))
    return LockedFile(name, str(version), file, blob.size, blob.sha256)

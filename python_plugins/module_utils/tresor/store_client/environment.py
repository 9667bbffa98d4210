"""Immutable Python environments on hosts: look first, decide, then act once."""

from __future__ import annotations

import json
import re
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from ..bundle import uv
from ..bundle.canonical import dump_canonical, sha256_hex
from ..bundle.content import normalised, parse_requirements, requirement_lines
from ..bundle.disk import check_space, remove_tree
from ..bundle.errors import EnvironmentNotReadyError, RejectedError
from ..bundle.layout import write_atomic
from . import reuse
from .client import Connection, Listed, StoreClient
from .reuse import MARKER

TOOLS_PART = "wheels-tools"
MAX_WHEEL_BYTES = 8 * 1024**3
# Wheels, their unpacked form and compiled code; CPU vLLM measured 3.6 times its wheels unpacked.
SPACE_FACTOR = 5.5
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_VERSION = re.compile(r"[0-9][0-9A-Za-z.+]{0,60}")
_RELEASE = re.compile(r"[0-9][0-9A-Za-z.+]{0,60}-[0-9a-f]{8}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_MODULE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*")


@dataclass(frozen=True)
class Wanted:
    """The environment a host shall have."""

    name: str
    version: str
    requirements_sha256: str
    part: str
    python: Path
    prefix: Path
    warm_imports: tuple[str, ...] = ()
    tools_requirements_sha256: str | None = None
    keep: int = 1

    def __post_init__(self) -> None:
        """Refuse values that could lead outside the prefix or run something else."""
        for rule, pattern, value in (
            ("environment.name", _NAME, self.name),
            ("environment.version", _VERSION, self.version),
            ("environment.requirements", _SHA256, self.requirements_sha256),
            *(("environment.warm-imports", _MODULE, module) for module in self.warm_imports),
        ):
            if not pattern.fullmatch(value):
                raise EnvironmentNotReadyError(
                    rule, f"{value!r} is not of the form {pattern.pattern}"
                )

    @property
    def folder(self) -> Path:
        """Return the folder of all releases of this environment."""
        return self.prefix / self.name

    @property
    def release(self) -> Path:
        """Return the folder of this release."""
        return self.folder / f"{self.version}-{self.requirements_sha256[:8]}"


@dataclass(frozen=True)
class Plan:
    """What has to be done; empty if the host is as wanted."""

    install: bool = False
    warm: tuple[str, ...] = ()
    switch: bool = False
    before: str | None = None
    remove: tuple[Path, ...] = field(default=())

    @property
    def changed(self) -> bool:
        """Tell whether anything would change."""
        return self.install or bool(self.warm) or self.switch or bool(self.remove)


def plan_present(wanted: Wanted) -> Plan:
    """Compare the host with what is wanted; reads markers and links only."""
    marker = reuse.marker(wanted.release)
    installed = marker.get("requirements_sha256") == wanted.requirements_sha256
    known = marker.get("warm_imports")
    warmed = set(known) if installed and isinstance(known, list) else set()
    before = _current(wanted.folder)
    return Plan(
        install=not installed,
        warm=tuple(module for module in wanted.warm_imports if module not in warmed),
        switch=before != wanted.release.name,
        before=before,
        remove=_superseded(wanted, before),
    )


def apply_present(wanted: Wanted, plan: Plan, connection: Connection) -> int:
    """Do what the plan says; ``current`` moves only when all else succeeded.

    Returns:
        How many wheels were taken over from environments that are here already.

    Raises:
        EnvironmentNotReadyError, RejectedError: with nothing half done.
    """
    told = reuse.marker(wanted.release)
    contents: _Contents | None = None
    if plan.install:
        try:
            contents = _install(wanted, connection)
        except BaseException:
            if wanted.release.exists():
                remove_tree(wanted.release)
            raise
        told = {"python": contents.python, "wheels": contents.wheels}
    if plan.warm and not (contents is not None and contents.has_compiled(plan.warm)):
        _warm(wanted.release, plan.warm)
    if plan.install or plan.warm:
        known = told.get("warm_imports")
        modules = {*wanted.warm_imports, *(known if isinstance(known, list) else ())}
        marker: dict[str, object] = {
            **{key: told[key] for key in ("python", "wheels") if key in told},
            "name": wanted.name,
            "version": wanted.version,
            "requirements_sha256": wanted.requirements_sha256,
            "warm_imports": sorted(modules),
        }
        reuse.remember_compiled(wanted.release)
        write_atomic(wanted.release / MARKER, dump_canonical(marker) + b"\n")
    if plan.switch:
        uv.link(wanted.folder / "current", Path(wanted.release.name))
    for path in plan.remove:
        remove_tree(path)
    return 0 if contents is None else len(contents.taken)


def plan_absent(prefix: Path, name: str, release: str | None) -> Plan:
    """Plan the removal of one release, or of the whole environment if none is named."""
    if not _NAME.fullmatch(name) or (release is not None and not _RELEASE.fullmatch(release)):
        raise EnvironmentNotReadyError(
            "environment.name", f"{name!r} with release {release!r} is not an environment"
        )
    folder = prefix / name
    before = _current(folder)
    path = folder if release is None else folder / release
    exists = path.is_dir()
    return Plan(
        switch=exists and before is not None and release in (None, before),
        before=before,
        remove=(path,) if exists else (),
    )


def apply_absent(prefix: Path, name: str, plan: Plan) -> None:
    """Remove ``current`` first, then what it pointed at."""
    if plan.switch:
        (prefix / name / "current").unlink(missing_ok=True)
    for path in plan.remove:
        remove_tree(path)


@dataclass(frozen=True)
class _Contents:
    """What an environment was made of.

    Attributes:
        wheels: name of the ``.dist-info`` folder by the wheel's SHA-256.
        taken: what came from other environments.
        fetched: how many wheels came from the store.
    """

    python: str
    wheels: dict[str, str]
    taken: frozenset[reuse.Unpacked]
    fetched: int

    def has_compiled(self, modules: tuple[str, ...]) -> bool:
        """Tell whether all that modules load was compiled where everything comes from."""
        releases = {wheel.release for wheel in self.taken}
        if self.fetched or len(releases) != 1:
            return False
        known = reuse.marker(releases.pop()).get("warm_imports")
        return isinstance(known, list) and set(modules) <= set(known)


def _install(wanted: Wanted, connection: Connection) -> _Contents:
    wanted.folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    if wanted.release.exists():
        remove_tree(wanted.release)  # without a marker: what a killed run left behind
    for leftover in wanted.folder.glob(".download-*"):
        remove_tree(leftover)
    with (
        tempfile.TemporaryDirectory(prefix=".download-", dir=wanted.folder) as temporary,
        StoreClient(connection) as client,
    ):
        folder = Path(temporary)
        requirements = _requirements(client, wanted.part, wanted.requirements_sha256)
        python = _check_environment_file(client, wanted)
        pins = parse_requirements(requirements, f"{wanted.part}/requirements.txt")
        listed = [item for item in client.listing(wanted.part) if item.name.endswith(".whl")]
        _check_names(listed, wanted.part)
        tool = uv.Uv(_uv(client, wanted, folder), folder / "cache")
        tool.create(wanted.release, wanted.python)
        known = reuse.find(wanted.prefix, python)
        candidates = {known[digest]: (digest, pins[digest]) for digest in pins if digest in known}
        taken = reuse.take(candidates, wanted.release)
        wheels = [candidates[wheel] for wheel in taken]
        here = {project for _, project in wheels}
        missing = [item for item in listed if _project(item) not in here]
        check_space(wanted.folder, int(sum(item.size for item in missing) * SPACE_FACTOR))
        target = folder / "wheels"
        target.mkdir()
        wheels += _wheels(client, wanted.part, missing, pins, target)
        _check_complete(pins, {project for _, project in wheels}, wanted.part)
        if missing:
            lines = requirement_lines(requirements, wanted.part)
            pinned = folder / "requirements.txt"
            pinned.write_text(
                "".join(f"{line}\n" for name, line in lines.items() if name not in here),
                encoding="utf-8",
            )
            # The cache goes away with the folder, so its files become the environment's own.
            tool.install(wanted.release, target, pinned, link_mode="hardlink")
        found = reuse.unpacked(wanted.release, python, wheels)
    return _Contents(python, found, frozenset(taken), len(missing))


def _project(item: Listed) -> str:
    return normalised(item.name.partition("-")[0])


def _requirements(client: StoreClient, part: str, digest: str | None) -> str:
    raw = client.read(f"{part}/requirements.txt")
    if digest is not None and sha256_hex(raw) != digest:
        raise RejectedError(
            "store.digest",
            f"SHA-256 is {sha256_hex(raw)}, wanted is {digest}: the store holds another release "
            "than the plan; run the plan again",
            f"{part}/requirements.txt",
        )
    return raw.decode("utf-8")


def _check_environment_file(client: StoreClient, wanted: Wanted) -> str:
    """Return the Python that the wheels are for, which the host's is."""
    path = f"{wanted.part}/environment.json"
    try:
        data = json.loads(client.read(path))
        python = str(data["python"])
        matches = data["version"] == wanted.version
    except (ValueError, KeyError, TypeError) as error:
        raise RejectedError("store.environment", f"cannot be read: {error!r}", path) from error
    if not matches:
        raise RejectedError(
            "store.environment", f"version is {data['version']!r}, wanted {wanted.version!r}", path
        )
    uv.check_python(wanted.python, python)
    return python


def _uv(client: StoreClient, wanted: Wanted, folder: Path) -> Path:
    requirements = _requirements(client, TOOLS_PART, wanted.tools_requirements_sha256)
    found = [item for item in client.listing(TOOLS_PART) if re.match(r"uv-.*\.whl$", item.name)]
    if len(found) != 1:
        raise RejectedError("store.tools", f"expected one uv wheel, found {len(found)}", TOOLS_PART)
    wheel = folder / "uv.whl"
    client.download(f"{TOOLS_PART}/{found[0].name}", wheel, limit=MAX_WHEEL_BYTES)
    program = uv.extract(wheel, requirements, folder)
    wheel.unlink()
    return program


def _check_names(listed: list[Listed], part: str) -> None:
    for item in listed:
        if "/" in item.name or item.name.startswith("."):
            raise RejectedError("store.listing", "name is not a file name", item.name)


def _wheels(
    client: StoreClient, part: str, wheels: list[Listed], pins: dict[str, str], target: Path
) -> list[tuple[str, str]]:
    """Fetch wheels into ``target``; returns digest and project of each."""
    found = []
    for item in wheels:
        digest = client.download(f"{part}/{item.name}", target / item.name, limit=MAX_WHEEL_BYTES)
        if digest not in pins:
            raise RejectedError(
                "store.digest", "wheel is not pinned by requirements.txt", f"{part}/{item.name}"
            )
        found.append((digest, pins[digest]))
    return found


def _check_complete(pins: dict[str, str], here: set[str], part: str) -> None:
    missing = sorted(set(pins.values()) - here)
    if missing:
        raise RejectedError("store.missing", f"no wheel of {missing[0]} in the store", part)


def _warm(release: Path, modules: tuple[str, ...]) -> None:
    """Import once as root, so that exactly what the service loads is compiled."""
    code = "; ".join(f"import {module}" for module in modules)
    with tempfile.TemporaryDirectory(prefix="tresor-warm-") as home:
        offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}
        uv.run(
            [str(release / "bin" / "python"), "-c", code],
            {"HOME": home, "XDG_CACHE_HOME": home, **offline},
        )


def _current(folder: Path) -> str | None:
    path = folder / "current"
    return str(path.readlink()) if path.is_symlink() else None


def _superseded(wanted: Wanted, before: str | None) -> tuple[Path, ...]:
    """Return complete releases beyond the one wanted and those kept for rollback."""
    try:
        others = [
            path
            for path in wanted.folder.iterdir()
            if path != wanted.release and not path.is_symlink() and (path / MARKER).is_file()
        ]
    except OSError:
        return ()
    others.sort(key=lambda path: (path.name == before, path.stat().st_mtime), reverse=True)
    return tuple(others[wanted.keep :])

"""A qualified set: driver, Fabric Manager, kernel, CUDA and DCGM, built and tested together.

A set pins every package to an exact version. Its proofs carry the digest of everything but
themselves, so a set that was changed after it was proven is no longer qualified. Pure: the file's
content in, a set or every problem at once out.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

SCHEMA: Final = "gpu-set/v1"
GROUPS: Final = ("kernel", "driver", "fabric", "nvlink5", "imex", "cuda", "dcgm", "exporter")
"""What a package is for. Hosts install the groups that their hardware needs."""
PROOFS: Final = ("built", "tested")
SYSTEMS: Final = ("debian-12", "debian-13", "ubuntu-22.04", "ubuntu-24.04", "redhat-9")
BRANCHES: Final[Mapping[str, dt.date]] = {
    "580": dt.date(2028, 6, 30),
    "595": dt.date(2027, 3, 31),
    "620": dt.date(2029, 9, 30),
}
"""Driver branches and the end of the month in which NVIDIA's support ends
(docs.nvidia.com, supported drivers and CUDA toolkit versions, read for R620)."""
_CUDA_NEEDS: Final = {13: 580}
"""The oldest driver branch of each major CUDA version without compatibility packages."""
_VERSION: Final = re.compile(r"\d+\.\d+(\.\d+)?")
_EXACT: Final = re.compile(r"([0-9]+:)?[0-9][A-Za-z0-9.+~^-]*")


class SetError(Exception):
    """A set that may not be used; `problems` has one line for each reason."""

    def __init__(self, name: str, problems: list[str]) -> None:
        super().__init__(f"the set {name} is refused: " + "; ".join(problems))
        self.problems = problems


@dataclass(frozen=True)
class Package:
    """One package at an exact version; `version` is the packager's whole one, with epoch."""

    name: str
    version: str
    group: str

    @property
    def upstream(self) -> str:
        """Return the version of the software: without epoch, revision and what packagers add."""
        return re.split(r"[-~+]", self.version.rpartition(":")[2], maxsplit=1)[0]


@dataclass(frozen=True)
class QualifiedSet:
    """A set that may be used."""

    name: str
    system: str
    branch: str
    driver: str
    module: str
    kernel: str
    cuda: str
    dcgm: str
    packages: tuple[Package, ...]
    digest: str

    def group(self, *names: str) -> list[dict[str, str]]:
        """Return name and version of the packages of some groups, in the order of the file."""
        return [{"name": p.name, "version": p.version} for p in self.packages if p.group in names]


def digest_of(data: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a set without its proofs, over canonical JSON."""
    content = {key: value for key, value in data.items() if key != "proofs"}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def read_set(data: Mapping[str, Any], *, system: str, today: dt.date) -> QualifiedSet:
    """Return the set of a file that fits the schema `gpu-set`.

    Args:
        data: the file's content.
        system: the host's operating system, such as ``debian-12``.
        today: a branch whose support has ended is refused.

    Raises:
        SetError: it is not for this host, contradicts itself, or was not proven as it is.
    """
    packages = tuple(Package(p["name"], p["version"], p["group"]) for p in data["packages"])
    problems = [
        *_fits(data, system, today),
        *_together(data),
        *_packages(data, packages),
        *_proven(data),
    ]
    if problems:
        raise SetError(data["name"], problems)
    return QualifiedSet(
        name=data["name"],
        system=data["system"],
        branch=data["branch"],
        driver=data["driver"],
        module=data["module"],
        kernel=data["kernel"],
        cuda=data["cuda"],
        dcgm=data["dcgm"],
        packages=packages,
        digest=digest_of(data),
    )


def _fits(data: Mapping[str, Any], system: str, today: dt.date) -> Iterator[str]:
    if data["system"] != system:
        yield f"it is for {data['system']}, the host runs {system}: name a set for that system"
    end = BRANCHES.get(data["branch"])
    if end is None:
        known = ", ".join(BRANCHES)
        yield f"the branch {data['branch']} is not supported: take one of {known}"
    elif today > end:
        yield f"NVIDIA's support of the branch {data['branch']} ended on {end}: take a newer one"


def _together(data: Mapping[str, Any]) -> Iterator[str]:
    driver, manager = data["driver"], data["fabric_manager"]
    if driver.split(".")[0] != data["branch"]:
        yield f"the driver {driver} is not of the branch {data['branch']}"
    if manager != driver:
        yield (
            f"mixed versions: driver {driver}, Fabric Manager {manager}; they must be equal to the "
            "digit, or CUDA has no device"
        )
    major = int(data["cuda"].split(".")[0])
    needed = _CUDA_NEEDS.get(major)
    if needed is not None and int(driver.split(".")[0]) < needed:
        yield f"CUDA {data['cuda']} needs branch {needed} or newer, the set has driver {driver}"


def _packages(data: Mapping[str, Any], packages: tuple[Package, ...]) -> Iterator[str]:
    seen: set[str] = set()
    for package in packages:
        if package.name in seen:
            yield f"the package {package.name} stands there twice"
        seen.add(package.name)
        if not _EXACT.fullmatch(package.version):
            yield f"{package.name}: {package.version!r} is no exact version"
        elif _of_driver(package) and package.upstream != data["driver"]:
            yield (
                f"mixed versions: {package.name} is {package.version}, the driver is "
                f"{data['driver']}"
            )
    groups = {package.group for package in packages}
    missing = [group for group in ("kernel", "driver") if group not in groups]
    if missing:
        yield f"no packages of {' and '.join(missing)}"
    yield from _kernel(data, [p for p in packages if p.group == "kernel"])


def _of_driver(package: Package) -> bool:
    """Return whether a package of the driver carries the driver's own version number.

    dkms, firmware tools and the pinning packages do not.
    """
    return (
        package.group in ("driver", "fabric")
        and "nvidia" in package.name
        and not package.name.startswith(("nvidia-driver-pinning", "nvidia-modprobe"))
    )


def _kernel(data: Mapping[str, Any], packages: list[Package]) -> Iterator[str]:
    release = data["kernel"]
    if data["system"] == "redhat-9":
        named = [p for p in packages if p.name in ("kernel", "kernel-core")]
        headers = [p for p in packages if p.name == "kernel-devel"]
    else:
        named = [p for p in packages if p.name.startswith("linux-image") and release in p.name]
        headers = [p for p in packages if p.name == f"linux-headers-{release}"]
    if packages and not named:
        yield f"no package of the kernel {release} among those of the group kernel"
    if data["module"] == "dkms-open":
        if not headers:
            yield f"missing headers of the kernel {release}: DKMS builds nothing without, quietly"
        elif named and headers[0].version != named[0].version:
            yield (
                f"headers {headers[0].version} are not those of the kernel {named[0].version}: "
                "DKMS fails quietly"
            )


def _proven(data: Mapping[str, Any]) -> Iterator[str]:
    digest = digest_of(data)
    proofs: Mapping[str, Any] = data.get("proofs") or {}
    for kind in PROOFS:
        proof = proofs.get(kind)
        if proof is None:
            yield f"it was not {kind} together: there is no proof"
        elif proof["content_sha256"] != digest:
            yield f"it was changed after it was {kind}: the proof is for other contents"
        elif (proof["kernel"], proof["driver"]) != (data["kernel"], data["driver"]):
            yield (
                f"it was {kind} with kernel {proof['kernel']} and driver {proof['driver']}, "
                f"not with {data['kernel']} and {data['driver']}"
            )

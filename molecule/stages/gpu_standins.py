"""Packages that stand in for NVIDIA's, and the qualified sets that are made of them.

Their programs are in `molecule/gpu_host/standin` and answer from recorded outputs. Built with
dpkg-deb; the C parts (a CUDA library, a module file) with gcc.
"""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from stages.shell import REPOSITORY, StageError, output
from tresor.gpu.qualified import digest_of

STANDIN: Final = REPOSITORY / "molecule" / "gpu_host" / "standin"
FIXTURES: Final = REPOSITORY / "python_plugins" / "tests" / "gpu" / "fixtures"
KERNEL: Final = platform.release()
"""The hosts run on this machine's kernel, so every set names it."""
KERNEL_VERSION: Final = "6.1.176-1"
NEWER_KERNEL: Final = "6.99.0-1-amd64"
SYSTEMS: Final = ("debian-12", "debian-13")


@dataclass(frozen=True)
class Release:
    """One version of the driver's packages, and what is wrong with it."""

    driver: str
    builds: bool = True
    """Whether a module file comes out; DKMS that fails quietly leaves none."""
    healthy: bool = True
    """Whether the fabric takes both GPUs in after the boot."""


OLD: Final = Release("580.95.05")
NEW: Final = Release("580.105.08")
UNBUILT: Final = Release("580.110.01", builds=False)
SICK: Final = Release("580.120.02", healthy=False)
RELEASES: Final = (OLD, NEW, UNBUILT, SICK)


def repository(folder: Path) -> None:
    """Build every package and the index of a flat repository in an empty folder.

    Raises:
        StageError: gcc or dpkg tools are missing, or a build failed.
    """
    for tool in ("gcc", "dpkg-deb", "apt-ftparchive"):
        if shutil.which(tool) is None:
            raise StageError(
                f"{tool} is missing on this machine: apt-get install gcc libc6-dev dpkg apt-utils"
            )
    work = folder / "work"
    for name in ("linux-image", "linux-headers"):
        _kernel(work, folder, name, KERNEL, KERNEL_VERSION)
    _kernel(work, folder, "linux-image", NEWER_KERNEL, "6.99.1-1")
    for release in RELEASES:
        _driver(work, folder, release)
        _fabric(work, folder, release)
    _dcgm(work, folder)
    _exporter(work, folder)
    _hardware(work, folder)
    shutil.rmtree(work)
    done = subprocess.run(
        ["apt-ftparchive", "packages", "."], cwd=folder, capture_output=True, check=False
    )
    if done.returncode:
        raise StageError(f"apt-ftparchive failed: {done.stderr.decode(errors='replace')[-500:]}")
    (folder / "Packages").write_bytes(done.stdout)


def sets(folder: Path) -> None:
    """Write the sets `<system>-<driver>.json` with their proofs, and two that are refused."""
    folder.mkdir(parents=True, exist_ok=True)
    for system in SYSTEMS:
        for release in RELEASES:
            _write(folder / f"{system}-{release.driver}.json", _proven(_set(system, release)))
        unproven = _set(system, NEW)
        _write(folder / f"{system}-unproven.json", unproven)
        mixed = {**_set(system, NEW), "fabric_manager": OLD.driver}
        _write(folder / f"{system}-mixed.json", _proven(mixed))


def _set(system: str, release: Release) -> dict[str, Any]:
    version = f"{release.driver}-1"
    packages = [
        (f"linux-image-{KERNEL}", KERNEL_VERSION, "kernel"),
        (f"linux-headers-{KERNEL}", KERNEL_VERSION, "kernel"),
        ("nvidia-open", version, "driver"),
        ("nvidia-fabricmanager", version, "fabric"),
        ("datacenter-gpu-manager-4-cuda13", "1:4.5.3-1", "dcgm"),
        ("datacenter-gpu-manager-exporter", "4.8.2-1", "exporter"),
    ]
    return {
        "schema": "gpu-set/v1",
        "name": f"{system}-r580-{release.driver}",
        "system": system,
        "branch": "580",
        "driver": release.driver,
        "fabric_manager": release.driver,
        "module": "dkms-open",
        "kernel": KERNEL,
        "cuda": "13.0",
        "dcgm": "4.5.3",
        "packages": [{"name": n, "version": v, "group": g} for n, v, g in packages],
    }


def _proven(data: dict[str, Any]) -> dict[str, Any]:
    proof = {
        "content_sha256": digest_of(data),
        "kernel": data["kernel"],
        "driver": data["driver"],
        "where": "lab, stand-in packages",
        "date": "2026-11-25",
    }
    return {**data, "proofs": {"built": proof, "tested": proof}}


def _write(path: Path, data: dict[str, Any]) -> None:
    path.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")


def _driver(work: Path, folder: Path, release: Release) -> None:
    root = work / f"driver-{release.driver}"
    _programs(
        root, "driver", ("nvidia-smi", "nvidia-persistenced", "nvidia-modprobe"), release.driver
    )
    _unit(root, "driver", "nvidia-persistenced.service")
    library = root / "usr/lib/x86_64-linux-gnu/libcuda.so.1"
    library.parent.mkdir(parents=True)
    _compile("-shared", "-fPIC", "-o", str(library), str(STANDIN / "driver/cuda.c"))
    data = root / "usr/share/standin"
    data.mkdir(parents=True)
    smi = (FIXTURES / "handmade-smi-2x-h100-fabric.xml").read_text(encoding="utf-8")
    smi = smi.replace("580.95.05", release.driver).replace("secded>3<", "secded>0<")
    smi = smi.replace("_pending>Yes<", "_pending>No<")
    if release.healthy:
        smi = smi.replace("Insufficient Resources", "Success")
    (data / "smi.xml").write_text(smi, encoding="utf-8")
    shutil.copy(FIXTURES / "nvlink-2-of-8x-h100.txt", data / "nvlink.txt")
    (data / "topo.txt").write_text(
        "\tGPU0\tGPU1\tCPU Affinity\tNUMA Affinity\n"
        "GPU0\t X \tNV18\t0-55\t0\nGPU1\tNV18\t X \t0-55\t0\n"
    )
    (data / "nvlink-errors.txt").write_text(
        "".join(
            f"GPU {gpu}: NVIDIA H100 80GB HBM3 (UUID: GPU-0)\n"
            "\t Link 0: Replay Errors: 0\n\t Link 0: Recovery Errors: 0\n\t Link 0: CRC Errors: 0\n"
            for gpu in (0, 1)
        )
    )
    (data / "compute.csv").write_text("00000000:18:00.0, 9.0\n00000000:2A:00.0, 9.0\n")
    scripts = {}
    if release.builds:
        module = root / f"usr/lib/modules/{KERNEL}/updates/dkms/nvidia.ko"
        module.parent.mkdir(parents=True)
        source = str(STANDIN / "driver/module.c")
        _compile(f'-DDRIVER="{release.driver}"', "-c", "-o", str(module), source)
        scripts["postinst"] = f"#!/bin/sh\nset -e\ndepmod {KERNEL}\nsystemctl daemon-reload\n"
    _pack(root, folder, "nvidia-open", f"{release.driver}-1", scripts)


def _fabric(work: Path, folder: Path, release: Release) -> None:
    root = work / f"fabric-{release.driver}"
    _programs(root, "fabric", ("nv-fabricmanager",), release.driver)
    _unit(root, "fabric", "nvidia-fabricmanager.service")
    _pack(root, folder, "nvidia-fabricmanager", f"{release.driver}-1")


def _dcgm(work: Path, folder: Path) -> None:
    root = work / "dcgm"
    _programs(root, "dcgm", ("nv-hostengine", "dcgmi"), "")
    _unit(root, "dcgm", "nvidia-dcgm.service")
    results = [{"entity_group": "GPU", "entity_id": gpu, "status": "Pass"} for gpu in (0, 1)]
    tests = [{"name": "software", "results": results, "test_summary": {"status": "Pass"}}]
    categories = [{"category": "Deployment", "tests": tests}]
    data = root / "usr/share/standin-dcgm/diag.json"
    data.parent.mkdir(parents=True)
    _write(data, {"DCGM Diagnostic": {"test_categories": categories}})
    _pack(root, folder, "datacenter-gpu-manager-4-cuda13", "1:4.5.3-1")


def _exporter(work: Path, folder: Path) -> None:
    root = work / "exporter"
    _programs(root, "exporter", ("dcgm-exporter",), "")
    _unit(root, "exporter", "nvidia-dcgm-exporter.service")
    # As packages do that enable their unit at once; the role must have masked it before.
    start = (
        "#!/bin/sh\nsystemctl daemon-reload\nsystemctl enable --now nvidia-dcgm-exporter || true\n"
    )
    _pack(root, folder, "datacenter-gpu-manager-exporter", "4.8.2-1", {"postinst": start})


def _hardware(work: Path, folder: Path) -> None:
    root = work / "hardware"
    _unit(root, "hardware", "standin-hardware.service")
    _unit(root, "hardware", "tresor-vllm@.service")
    for address, kind in (
        ("0000:18:00.0", "0x030200"),
        ("0000:2a:00.0", "0x030200"),
        ("0000:05:00.0", "0x068000"),
    ):
        device = root / "usr/share/standin-hardware/pci" / address
        device.mkdir(parents=True)
        values = {"vendor": "0x10de", "class": kind, "device": "0x2330", "numa_node": "0"}
        for name, value in values.items():
            (device / name).write_text(f"{value}\n")
    _pack(root, folder, "standin-hardware", "1")


def _kernel(work: Path, folder: Path, kind: str, release: str, version: str) -> None:
    root = work / f"{kind}-{release}"
    if kind == "linux-image":
        (root / "boot").mkdir(parents=True)
        (root / f"boot/vmlinuz-{release}").write_text("stand-in\n")
        script = root / "usr/sbin/update-initramfs"
        if release == KERNEL:
            script.parent.mkdir(parents=True)
            script.write_text(
                f'#!/bin/sh\n[ "$*" = "-u -k {release}" ] || exit 1\n'
                f"touch /boot/initrd.img-{release}\n"
            )
            script.chmod(0o755)
    _pack(root, folder, f"{kind}-{release}", version)


def _programs(root: Path, part: str, names: tuple[str, ...], driver: str) -> None:
    for name in names:
        target = root / "usr/bin" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        text = (STANDIN / part / name).read_text(encoding="utf-8")
        target.write_text(text.replace("@DRIVER@", driver), encoding="utf-8")
        target.chmod(0o755)


def _unit(root: Path, part: str, name: str) -> None:
    target = root / "usr/lib/systemd/system" / name
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(STANDIN / part / name, target)


def _compile(*arguments: str) -> None:
    output(["gcc", "-O1", *arguments], what="compile a stand-in")


def _pack(
    root: Path, folder: Path, name: str, version: str, scripts: dict[str, str] | None = None
) -> None:
    control = root / "DEBIAN"
    control.mkdir(parents=True, exist_ok=True)
    (control / "control").write_text(
        f"Package: {name}\nVersion: {version}\nArchitecture: amd64\n"
        "Maintainer: lab <lab@example.com>\nDescription: stand-in for a package of NVIDIA\n"
    )
    for script, text in (scripts or {}).items():
        (control / script).write_text(text)
        (control / script).chmod(0o755)
    control.chmod(0o755)
    target = folder / f"{name}_{version.replace(':', '%3a')}_amd64.deb"
    command = ["dpkg-deb", "--root-owner-group", "-Zgzip", "--build", str(root), str(target)]
    output(command, what=f"pack {name} {version}")

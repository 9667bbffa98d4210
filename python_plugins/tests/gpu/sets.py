"""A qualified set for tests, with proofs that fit whatever was changed in it."""

from __future__ import annotations

from typing import Any

from tresor.gpu.qualified import digest_of

KERNEL = "6.1.0-50-amd64"
DRIVER = "580.95.05"


def contents(**changes: Any) -> dict[str, Any]:
    """Return a set without proofs."""
    return {
        "schema": "gpu-set/v1",
        "name": "debian-12-r580-1",
        "system": "debian-12",
        "branch": "580",
        "driver": DRIVER,
        "fabric_manager": DRIVER,
        "module": "dkms-open",
        "kernel": KERNEL,
        "cuda": "13.0",
        "dcgm": "4.5.3",
        "packages": [
            {"name": f"linux-image-{KERNEL}", "version": "6.1.176-1", "group": "kernel"},
            {"name": f"linux-headers-{KERNEL}", "version": "6.1.176-1", "group": "kernel"},
            {"name": "nvidia-dkms-580-open", "version": f"{DRIVER}-1", "group": "driver"},
            {"name": "dkms", "version": "3.0.10-8+deb12u1", "group": "driver"},
            {"name": "nvidia-fabricmanager-580", "version": f"{DRIVER}-1", "group": "fabric"},
            {"name": "datacenter-gpu-manager-4-cuda13", "version": "1:4.5.3-1", "group": "dcgm"},
        ],
        **changes,
    }


def proven(data: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Return a set with the proofs that fit it, but for `changes`."""
    proof = {
        "content_sha256": digest_of(data),
        "kernel": data["kernel"],
        "driver": data["driver"],
        "where": "a build host",
        "date": "2026-11-25",
        **changes,
    }
    return {**data, "proofs": {"built": proof, "tested": dict(proof)}}


def without(data: dict[str, Any], name: str) -> dict[str, Any]:
    """Return a set without one package."""
    return {**data, "packages": [p for p in data["packages"] if p["name"] != name]}


def with_version(data: dict[str, Any], name: str, version: str) -> dict[str, Any]:
    """Return a set with another version of one package."""
    return {
        **data,
        "packages": [
            {**p, "version": version} if p["name"] == name else p for p in data["packages"]
        ],
    }

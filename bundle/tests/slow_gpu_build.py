"""Real modules for real kernels: Debian's open driver, and the kernel that it does not build for.

Minutes each, root, and packages of Debian's contrib and non-free sections: ``make test-dkms``.
"""

from __future__ import annotations

import pytest

from bundle.builder import gpu_build
from bundle.builder.command import run
from bundle.builder.errors import PolicyError

DRIVER = "535.261.03"
GOOD = "6.1.0-50-amd64"
# Its security update changed pci_resize_resource(), which this driver calls.
BROKEN = "6.1.0-56-amd64"


@pytest.fixture(autouse=True)
def no_package_client() -> None:
    """Of all tests these do fetch packages."""


def version(package: str) -> str:
    """Return the newest version that the machine's mirrors have."""
    listing = run(["apt-cache", "madison", package], what=f"look for {package}")
    return listing.splitlines()[0].split("|")[1].strip()


def build(kernel: str) -> gpu_build.Built:
    """Build Debian's open driver for a kernel of bookworm, at exact versions."""
    lines = gpu_build.machine_lines("debian-12")
    packages = {
        "nvidia-open-kernel-dkms": f"{DRIVER}-1",
        "nvidia-open-kernel-support": f"{DRIVER}-1",
        "nvidia-alternative": f"{DRIVER}-1",
        "firmware-nvidia-gsp": f"{DRIVER}-1",
        f"linux-headers-{kernel}": version(f"linux-headers-{kernel}"),
    }
    want = gpu_build.Wanted("debian-12", kernel, DRIVER, packages)
    return gpu_build.build(want, lines, gpu_build.machine_options())


def test_qualified_pair_builds() -> None:
    made = build(GOOD)
    print(f"{len(made.modules)} modules for {GOOD} in {made.seconds:.0f} s: {made.modules}")
    # Debian calls them nvidia-current-open and the like.
    assert any("uvm" in name for name in made.modules)
    assert len(made.modules) >= 4


def test_broken_pair_is_refused_with_the_compilers_words() -> None:
    with pytest.raises(PolicyError) as refused:
        build(BROKEN)
    print(refused.value)
    assert f"driver {DRIVER} does not build for kernel {BROKEN}" in str(refused.value)
    assert "pci_resize_resource" in str(refused.value)


def test_driver_of_another_version_is_refused() -> None:
    want = gpu_build.Wanted("debian-12", GOOD, DRIVER, {"kmod": version("kmod")})
    with pytest.raises(PolicyError, match="it has no module"):
        gpu_build.build(want, gpu_build.machine_lines("debian-12"), gpu_build.machine_options())

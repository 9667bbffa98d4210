"""Build the kernel modules of a GPU set in an empty system, and see whether they exist.

DKMS fails quietly: the package manager may be content while the next boot has no driver. So what
counts is what ``modinfo`` says of the kernel that the set names. The build runs in a root file
system of its own (mmdebstrap; needs root), which is removed afterwards.
"""

from __future__ import annotations

import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bundle.builder import apt
from bundle.builder.command import run
from bundle.builder.errors import CommandError, PolicyError

# The groups of a set that a module is made of.
GROUPS = ("kernel", "driver")
COMPONENTS = "main contrib non-free non-free-firmware"
_CODENAMES = {"debian-12": "bookworm", "debian-13": "trixie"}
_ERROR = re.compile(r"\b(error|fatal)\b", re.IGNORECASE)
_SHOWN = 8
_TIMEOUT_S = 3600
# No service may start in there.
_POLICY = "#!/bin/sh\nexit 101\n"
_SCRIPT = """
set -eu
mount -t proc proc "$1/proc"
mount --rbind /dev "$1/dev"
root=$1
shift
exec chroot "$root" "$@" 2>&1
"""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is built: exact versions by package, for one kernel; ``driver`` as modinfo tells it."""

    system: str
    kernel: str
    driver: str
    packages: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Built:
    """What came out: file names of the modules, and how long it took (seconds)."""

    modules: tuple[str, ...]
    seconds: float


def wanted(data: Mapping[str, object]) -> Wanted:
    """Return what of a set is built.

    Raises:
        PolicyError: the system is none whose packages can be installed here.
    """
    system = str(data["system"])
    if system not in _CODENAMES:
        raise PolicyError(
            f"a set for {system} cannot be built here ({', '.join(_CODENAMES)} can): build it on a "
            "machine with that system and state it with --built"
        )
    listed = data["packages"]
    packages = listed if isinstance(listed, list) else []
    return Wanted(
        system,
        str(data["kernel"]),
        str(data["driver"]),
        {item["name"]: item["version"] for item in packages if item["group"] in GROUPS},
    )


def machine_lines(system: str) -> list[str]:
    """Return lines of sources.list: the machine's own mirrors, with the components of drivers.

    Raises:
        FetchError: the machine's apt knows no mirror of Debian.
    """
    listing = run(["apt-get", "indextargets", "--format", apt.TARGET_FORMAT], what="ask apt")
    here = apt.os_release_codename()
    found = apt.machine_sources(listing, here, _CODENAMES[system])
    return [f"deb {source.place} {source.suite} {COMPONENTS}" for source in found]


def machine_options() -> list[str]:
    """Return how this machine's apt reaches its mirrors."""
    dump = run(["apt-config", "dump"], what="ask apt for its proxies")
    keys = ("acquire::http::proxy", "acquire::https::proxy")
    return [line.rstrip(";") for line in dump.splitlines() if line.lower().startswith(keys)]


def build(want: Wanted, lines: Sequence[str], apt_options: Sequence[str] = ()) -> Built:
    """Install the set's packages into an empty system and return the modules of its kernel.

    Args:
        want: see :func:`wanted`.
        lines: lines of sources.list.
        apt_options: for example proxies, as ``Acquire::http::Proxy "..."``.

    Raises:
        PolicyError: the packages cannot be installed together, or no module came out; with the
            compiler's first errors.
        CommandError: the empty system could not be made.
    """
    began = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="tresor-gpu-build-", dir="/var/tmp"))
    root = folder / "root"
    try:
        _bootstrap(root, want, lines, apt_options)
        pinned = [f"{name}={version}" for name, version in sorted(want.packages.items())]
        problem = ""
        try:
            install = ["apt-get", "-q", "-y", "--no-install-recommends", "install"]
            _inside(root, *install, "dkms", *pinned, what="install the set's packages")
        except CommandError as error:
            problem = str(error)
        if not problem and not _version(root, want.kernel):
            # Its package builds for the newest kernel only.
            try:
                _inside(root, "dkms", "autoinstall", "-k", want.kernel, what="build the modules")
            except CommandError as error:
                problem = str(error)
        found = _version(root, want.kernel)
        if found != want.driver:
            raise PolicyError(refusal(root, want, found, problem))
        names = sorted(path.name for path in _modules(root, want.kernel))
        return Built(tuple(names), time.monotonic() - began)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _bootstrap(root: Path, want: Wanted, lines: Sequence[str], options: Sequence[str]) -> None:
    command = ["unshare", "--mount", "--propagation", "private", "--pid", "--fork"]
    command += ["--kill-child", "--mount-proc", "mmdebstrap", "--quiet", "--mode=root"]
    # The lists of packages are needed once more, and nothing in there knows the mirrors' keys.
    command += [
        "--variant=apt",
        "--skip=cleanup/apt/lists",
        *(f"--aptopt={option}" for option in options),
    ]
    command += [_CODENAMES[want.system], str(root), "-"]
    text = "\n".join(lines) + "\n"
    run(command, what=f"make an empty {want.system}", stdin=text, timeout=_TIMEOUT_S)
    pins = "".join(
        f"Package: {name}\nPin: version {version}\nPin-Priority: 1001\n\n"
        for name, version in sorted(want.packages.items())
    )
    (root / "etc/apt/preferences.d/tresor").write_text(pins, encoding="utf-8")
    policy = root / "usr/sbin/policy-rc.d"
    policy.write_text(_POLICY, encoding="utf-8")
    policy.chmod(0o755)


def _inside(root: Path, *command: str, what: str) -> str:
    """Run in the root, in namespaces that end with it."""
    outer = ["unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child"]
    environment = {"DEBIAN_FRONTEND": "noninteractive", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    return run(
        [*outer, "sh", "-c", _SCRIPT, "inside", str(root), *command],
        what=what,
        env=environment,
        timeout=_TIMEOUT_S,
    )


def _modules(root: Path, kernel: str) -> list[Path]:
    """The kernel's modules, by file: distributions give the driver's names of their own."""
    return sorted((root / "lib/modules" / kernel).rglob("nvidia*.ko*"))


def _version(root: Path, kernel: str) -> str:
    """Return the version that all of the kernel's modules have, empty without any."""
    found = set()
    for path in _modules(root, kernel):
        inside = f"/{path.relative_to(root)}"
        try:
            found.add(_inside(root, "modinfo", "-F", "version", inside, what="ask modinfo").strip())
        except CommandError:
            return ""
    return ", ".join(sorted(found))


def refusal(root: Path, want: Wanted, found: str, problem: str) -> str:
    """Say why a pair is refused, with the compiler's first errors or what the step before said."""
    seen = f"its module is {found}" if found else "it has no module"
    told = list(_errors(root))
    said = f"driver {want.driver} does not build for kernel {want.kernel}: {seen}"
    if not told and problem:
        said = f"the packages of driver {want.driver} and kernel {want.kernel} do not go together"
        told = [line.strip() for line in problem.splitlines()[-_SHOWN:]]
    listing = "".join(f"\n  {line}" for line in told[:_SHOWN])
    return f"{said}. Take another pair; no host may get this one{listing}"


def _errors(root: Path) -> Iterator[str]:
    """The compiler's errors in the logs that DKMS left."""
    for log in sorted((root / "var/lib/dkms").rglob("make.log")):
        for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
            if _ERROR.search(line) and "-Werror" not in line:
                yield line.strip()[:300]

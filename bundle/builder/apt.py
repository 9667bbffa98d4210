"""A private apt: the machine's own mirrors, another Debian release, its own state.

Nothing of the machine's package state is read or written; what is taken over is where the mirrors
are (``apt-get indextargets``) and how to reach them (proxy settings in ``apt.conf.d``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bundle.builder.command import run
from bundle.builder.errors import CommandError, FetchError
from bundle.builder.sources import Source as NamedSource

TARGET_FORMAT = "$(REPO_URI)|$(RELEASE)|$(COMPONENT)|$(CREATED_BY)|$(ORIGIN)"
_ORIGINS = ("Debian", "$(ORIGIN)")  # apt leaves the placeholder where it does not know
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_STATUS_FIELDS = (
    "Package",
    "Version",
    "Architecture",
    "Multi-Arch",
    "Essential",
    "Pre-Depends",
    "Depends",
    "Provides",
    "Conflicts",
    "Breaks",
    "Replaces",
)
_PACKAGE_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]+")

Stanza = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Source:
    """One line of sources.list: where (of the machine's configuration) and which suite."""

    place: str
    suite: str


@dataclass(frozen=True, slots=True)
class Vendor:
    """A vendor's repository, and the only packages (globs) that may come from it."""

    source: NamedSource
    packages: tuple[str, ...]

    def line(self) -> str:
        """Return its line of sources.list."""
        parts = [self.source.base, self.source.suite, *self.source.components]
        return f"deb [signed-by={self.source.key}] {' '.join(parts)}"

    def prefix(self) -> str:
        """Return how apt begins the names of its index files."""
        return self.source.base.partition("://")[2].rstrip("/").replace("/", "_")

    def is_at(self, place: str) -> bool:
        """Tell whether apt's address of a repository is this vendor's (``file:/x``, ``file:///x``)."""
        return _bare(place) == _bare(self.source.base)


def _bare(place: str) -> str:
    return re.sub(r"^[a-z]+:/+", "", place).rstrip("/")


def preferences(vendors: Sequence[Vendor]) -> str:
    """Return apt's preferences: a vendor gives what it is for, Debian gives everything else."""
    blocks = []
    for vendor in vendors:
        globs = " ".join(vendor.packages)
        origin = f'origin "{vendor.source.host}"'
        blocks.append(f"Package: *\nPin: {origin}\nPin-Priority: -1\n")
        blocks.append(f"Package: {globs}\nPin: {origin}\nPin-Priority: 900\n")
        blocks.append(f"Package: {globs}\nPin: release o=Debian\nPin-Priority: -1\n")
    return "\n".join(blocks)


def machine_sources(listing: str, machine: str, wanted: str) -> list[Source]:
    """Translate the machine's Debian suites to another release.

    Args:
        listing: output of ``apt-get indextargets`` in our format.
        machine: code name the machine runs, for example ``bookworm``.
        wanted: code name wanted.

    Raises:
        FetchError: the machine has no mirror of its own release, or none with security updates.
    """
    found: list[Source] = []
    for line in listing.splitlines():
        place, release, component, kind, origin = line.split("|")
        if kind != "Packages" or component != "main" or origin not in _ORIGINS:
            continue
        if release == machine or release.startswith(f"{machine}-"):
            source = Source(place, wanted + release.removeprefix(machine))
            if source not in found:
                found.append(source)
    suites = {source.suite for source in found}
    for needed in (wanted, f"{wanted}-security"):
        if needed not in suites:
            raise FetchError(
                f"apt on this machine has no mirror for suite {needed!r} (seen: "
                f"{', '.join(sorted(suites)) or 'none'}): add {machine} and {machine}-security, "
                "component main, to /etc/apt/sources.list.d and run 'apt-get update'"
            )
    return found


def os_release_codename(path: Path = Path("/etc/os-release")) -> str:
    """Return ``VERSION_CODENAME`` of this machine.

    Raises:
        FetchError: not a Debian release.
    """
    match = re.search(r"^VERSION_CODENAME=\"?([a-z]+)", path.read_text(encoding="utf-8"), re.M)
    if not match:
        raise FetchError(f"{path} names no VERSION_CODENAME: the builder needs a Debian release")
    return match.group(1)


def parse_stanzas(text: str) -> Iterator[dict[str, str]]:
    """Yield the paragraphs of a Debian control file; continuation lines keep their newline."""
    for block in re.split(r"\n\s*\n", text.strip("\n")):
        fields: dict[str, str] = {}
        key = ""
        for line in block.splitlines():
            if line[:1] in (" ", "\t"):
                fields[key] += "\n" + line
            elif ":" in line:
                key, _, value = line.partition(":")
                fields[key] = value.strip()
        if fields:
            yield fields


class Apt:
    """apt for one Debian release and architecture with its own state folder."""

    def __init__(
        self, folder: Path, codename: str, architecture: str, vendors: Sequence[Vendor] = ()
    ) -> None:
        self._vendors = tuple(vendors)
        self.codename = codename
        self.folder = folder / codename
        self._architecture = architecture
        self._status = self.folder / "status"
        self._preferences = self.folder / "preferences"
        for part in ("state/lists/partial", "cache/archives/partial"):
            (self.folder / part).mkdir(parents=True, exist_ok=True)
        self._status.write_text("", encoding="utf-8")
        self._preferences.write_text(preferences(self._vendors), encoding="utf-8")

    def update(self) -> None:
        """Fetch the release's indexes; signatures are checked against Debian's archive keys.

        Raises:
            FetchError: no mirror, or it could not be read.
        """
        ask = ["apt-get", "indextargets", "--format", TARGET_FORMAT]
        listing = run(ask, what="read apt's mirrors")
        if not listing.strip():
            # Nobody has run "apt-get update" here yet: the configuration still names the mirrors.
            listing = run([*ask, "--no-release-info"], what="read apt's mirrors")
        sources = machine_sources(listing, os_release_codename(), self.codename)
        signed = f"[signed-by={_KEYRING}] " if _KEYRING.exists() else ""
        text = "".join(f"deb {signed}{item.place} {item.suite} main\n" for item in sources)
        text += "".join(f"{vendor.line()}\n" for vendor in self._vendors)
        (self.folder / "sources.list").write_text(text, encoding="utf-8")
        try:
            # Error-Mode any: a mirror that cannot be read must not pass as "nothing new".
            self._run("apt-get", "-q", "-o", "APT::Update::Error-Mode=any", "update")
        except CommandError as error:
            raise FetchError(f"package lists of {self.codename}: {error}") from error

    def releases(self) -> dict[str, Path]:
        """Return the signed release files by suite."""
        found: dict[str, Path] = {}
        for path in sorted((self.folder / "state/lists").glob("*_InRelease")):
            name = path.name.removesuffix("_InRelease")
            vendor = next((item for item in self._vendors if name.startswith(item.prefix())), None)
            found[vendor.source.name if vendor else name.rpartition("_dists_")[2]] = path
        return found

    def origins(self) -> dict[tuple[str, str], str]:
        """Return which vendor's source offers a (name, version); Debian's own are absent."""
        found: dict[tuple[str, str], str] = {}
        if not self._vendors:
            return found
        listing = self._run(
            "apt-get", "indextargets", "--format", "$(REPO_URI)|$(FILENAME)", "Created-By: Packages"
        )
        for line in listing.splitlines():
            place, _, file = line.partition("|")
            for vendor in self._vendors:
                if vendor.is_at(place):
                    text = run(["/usr/lib/apt/apt-helper", "cat-file", file], what=f"read {file}")
                    for fields in parse_stanzas(text):
                        found[fields["Package"], fields["Version"]] = vendor.source.name
        return found

    def set_baseline(self, stanzas: Sequence[Stanza]) -> None:
        """Pretend that these packages, and no others, are installed."""
        blocks = []
        for stanza in stanzas:
            lines = [f"{key}: {stanza[key]}" for key in _STATUS_FIELDS if key in stanza]
            lines += ["Status: install ok installed", "Maintainer: -", "Description: -"]
            blocks.append("\n".join(lines))
        self._status.write_text("".join(f"{block}\n\n" for block in blocks), encoding="utf-8")

    def available(self, priorities: Sequence[str]) -> list[str]:
        """Return the names of all packages with one of these priorities."""
        text = self._run("apt-cache", "dumpavail")
        # The whole index has tens of thousands of paragraphs: look before parsing.
        marks = [f"\nPriority: {priority}\n" for priority in priorities]
        chosen = (block for block in text.split("\n\n") if any(mark in block for mark in marks))
        return sorted({fields["Package"] for block in chosen for fields in parse_stanzas(block)})

    def closure(self, packages: Sequence[str]) -> list[tuple[str, str]]:
        """Return (name, version) of all that an installation of ``packages`` would bring in.

        Raises:
            FetchError: a package does not exist or cannot be installed.
        """
        for name in packages:
            if not _PACKAGE_NAME.fullmatch(name.partition("=")[0]):
                raise FetchError(f"{name!r} is no Debian package name")
        try:
            text = self._run(
                "apt-get",
                "-s",
                "-q",
                "--no-install-recommends",
                "-o",
                "APT::Get::Show-User-Simulation-Note=false",
                "install",
                *packages,
            )
        except CommandError as error:
            raise FetchError(f"packages of {self.codename}: {error}") from error
        removed = re.findall(r"^Remv (\S+)", text, re.M)
        if removed:
            raise FetchError(f"installing would remove {', '.join(removed)} from the baseline")
        found = re.findall(r"^Inst (\S+?)(?::\S+)? (?:\[\S+\] )?\((\S+) ", text, re.M)
        return sorted(found)

    def show(self, packages: Sequence[tuple[str, str]]) -> dict[tuple[str, str], dict[str, str]]:
        """Return the index stanzas of exact versions; what the mirror does not have is absent."""
        if not packages:
            return {}
        # apt-cache fails as a whole when one name is unknown, so names are looked up first.
        names = sorted({name for name, _ in packages})
        known = set(self._run("apt-cache", "pkgnames").split())
        asked = [name for name in names if name in known]
        text = self._run("apt-cache", "show", "--all-versions", *asked) if asked else ""
        wanted = set(packages)
        result: dict[tuple[str, str], dict[str, str]] = {}
        for fields in parse_stanzas(text):
            key = (fields.get("Package", ""), fields.get("Version", ""))
            if key in wanted and "Filename" in fields and "SHA256" in fields:
                result.setdefault(key, fields)
        return result

    def download(self, packages: Sequence[tuple[str, str]], folder: Path) -> None:
        """Download exact versions into ``folder``; apt checks them against the signed index.

        Raises:
            FetchError: apt could not get them.
        """
        wanted = [f"{name}={version}" for name, version in packages]
        try:
            self._run("apt-get", "-q", "download", *wanted, cwd=folder)
        except CommandError as error:
            raise FetchError(f"packages of {self.codename}: {error}") from error

    def has_lists(self) -> bool:
        """Tell whether the indexes were fetched before."""
        return bool(self.releases())

    def _run(self, program: str, *args: str, cwd: Path | None = None) -> str:
        options = {
            "Dir::Etc::sourcelist": self.folder / "sources.list",
            "Dir::Etc::sourceparts": "/dev/null",
            "Dir::Etc::preferences": self._preferences,
            "Dir::Etc::preferencesparts": "/dev/null",
            "Dir::State": self.folder / "state",
            "Dir::State::status": self._status,
            "Dir::Cache": self.folder / "cache",
            "APT::Architecture": self._architecture,
            "APT::Architectures": self._architecture,
            "APT::Default-Release": "",
            "Acquire::Languages": "none",
            "APT::Sandbox::User": "",
        }
        flags = [part for key, value in options.items() for part in ("-o", f"{key}={value}")]
        return run(
            [program, *flags, *args], what=f"{program} for {self.codename}", cwd=cwd, timeout=900
        )

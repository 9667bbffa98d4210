"""Publish the apt repositories of a release: signed once, switched as a whole.

A release brings ``Release`` files without a signature; hosts trust only the key that this bastion
made. The pool stays where the importer put it; published folders link to it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from ..bundle.errors import EnvironmentNotReadyError

RECORD = "published.json"
LINK = "apt"
_OS = re.compile(r"[a-z0-9][a-z0-9.-]{0,40}")
_TIMEOUT_S = 120


@dataclass(frozen=True)
class Wanted:
    """What shall be published."""

    release: Path
    repositories: dict[str, str]
    """Part of the store by name of the operating system, for example debian-12."""
    state: Path
    suite: str
    key_name: str
    public_key: Path


@dataclass(frozen=True)
class Plan:
    """What differs; nothing if all is published."""

    make_key: bool
    publish: bool
    export_key: bool
    digests: dict[str, str]

    @property
    def changed(self) -> bool:
        """Tell whether anything would change."""
        return self.make_key or self.publish or self.export_key


def plan(wanted: Wanted) -> Plan:
    """Compare what is published with the release.

    Raises:
        EnvironmentNotReadyError: ``package-store.release``: a repository is not in the release.
    """
    digests = {}
    for name, part in wanted.repositories.items():
        if not _OS.fullmatch(name):
            raise EnvironmentNotReadyError("package-store.name", f"{name!r} is not a name")
        path = wanted.release / "tree" / part / "dists" / wanted.suite / "Release"
        try:
            digests[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError as error:
            raise EnvironmentNotReadyError(
                "package-store.release",
                f"cannot be read: {error.strerror}; import a bundle with the part {part}",
                str(path),
            ) from error
    key = _fingerprint(wanted.state)
    published = _published(wanted.state)
    same = (
        key is not None
        and published.get("key") == key
        and published.get("release") == str(wanted.release)
        and published.get("digests") == digests
    )
    exported = wanted.public_key.is_file() and published.get("public_key") == _digest(
        wanted.public_key
    )
    return Plan(key is None, not same, not exported, digests)


def apply(wanted: Wanted, plan: Plan) -> None:
    """Make the key, sign what changed, switch, and export the public key.

    Raises:
        EnvironmentNotReadyError: ``package-store.gpg``; what is published stays as it was.
    """
    wanted.state.mkdir(mode=0o755, parents=True, exist_ok=True)
    home = wanted.state / "gnupg"
    home.mkdir(mode=0o700, exist_ok=True)
    try:
        if plan.make_key:
            _gpg(home, "--quick-generate-key", wanted.key_name, "ed25519", "sign", "never")
            (wanted.state / "fingerprint").write_text(_ask_fingerprint(home) + "\n", "ascii")
        key = _fingerprint(wanted.state)
        if key is None:
            raise EnvironmentNotReadyError("package-store.gpg", "the key has no fingerprint")
        wanted.public_key.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        exported = _gpg(home, "--armor", "--export", key)
        _write(wanted.public_key, exported)
        _publish(wanted, plan, home, key, hashlib.sha256(exported).hexdigest())
    finally:
        subprocess.run(
            ["gpgconf", "--homedir", str(home), "--kill", "all"], capture_output=True, check=False
        )


def fingerprint(state: Path) -> str:
    """Return the key's fingerprint, empty if there is no key yet."""
    return _fingerprint(state) or ""


def published_release(state: Path) -> str:
    """Return the folder of the release that is published, empty if none is."""
    return str(_published(state).get("release", ""))


def _publish(wanted: Wanted, plan: Plan, home: Path, key: str, public_key: str) -> None:
    before = _published(wanted.state)
    known = before.get("digests")
    old_digests = known if isinstance(known, dict) and before.get("key") == key else {}
    fresh = wanted.state / f"published-{wanted.release.name}-{os.getpid()}"
    shutil.rmtree(fresh, ignore_errors=True)
    for name, part in wanted.repositories.items():
        source = wanted.release / "tree" / part
        suite = fresh / name / "dists" / wanted.suite
        suite.mkdir(mode=0o755, parents=True)
        (fresh / name / "pool").symlink_to(source / "pool")
        (suite / "main").symlink_to(source / "dists" / wanted.suite / "main")
        unsigned = source / "dists" / wanted.suite / "Release"
        shutil.copyfile(unsigned, suite / "Release")
        signed = wanted.state / LINK / name / "dists" / wanted.suite / "InRelease"
        if old_digests.get(name) == plan.digests[name] and signed.is_file():
            # The same list keeps its signature, so hosts see no change.
            shutil.copyfile(signed, suite / "InRelease")
        else:
            _gpg(home, "--local-user", key, "--digest-algo", "SHA512", "--output",
                 str(suite / "InRelease"), "--clearsign", str(unsigned))  # fmt: skip
        for path in (suite / "Release", suite / "InRelease"):
            path.chmod(0o644)
    record = {
        "key": key,
        "release": str(wanted.release),
        "digests": plan.digests,
        "public_key": public_key,
    }
    (fresh / RECORD).write_text(json.dumps(record, sort_keys=True) + "\n", "utf-8")
    link = wanted.state / LINK
    temporary = wanted.state / ".apt.new"
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(fresh.name)
    temporary.replace(link)
    for old in wanted.state.glob("published-*"):
        if old != fresh:
            shutil.rmtree(old)


def _published(state: Path) -> dict[str, object]:
    try:
        record = json.loads((state / LINK / RECORD).read_bytes())
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _fingerprint(state: Path) -> str | None:
    try:
        text = (state / "fingerprint").read_text("ascii").strip()
    except OSError:
        return None
    return text if re.fullmatch(r"[0-9A-F]{40,64}", text) else None


def _ask_fingerprint(home: Path) -> str:
    for line in _gpg(home, "--with-colons", "--list-secret-keys").decode().splitlines():
        if line.startswith("fpr:"):
            return line.split(":")[9]
    raise EnvironmentNotReadyError("package-store.gpg", "gpg shows no key", str(home))


def _gpg(home: Path, *arguments: str) -> bytes:
    command = ["gpg", "--homedir", str(home), "--batch", "--yes", "--quiet", "--no-tty",
               "--pinentry-mode", "loopback", "--passphrase", "", *arguments]  # fmt: skip
    try:
        result = subprocess.run(command, capture_output=True, check=False, timeout=_TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EnvironmentNotReadyError(
            "package-store.gpg", f"gpg cannot run: {error}; is the package gpg installed?"
        ) from error
    if result.returncode != 0:
        reason = result.stderr.decode(errors="replace").strip()[-500:]
        raise EnvironmentNotReadyError("package-store.gpg", f"gpg failed: {reason}", str(home))
    return result.stdout


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _write(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_bytes(content)
    temporary.chmod(0o644)
    temporary.replace(path)

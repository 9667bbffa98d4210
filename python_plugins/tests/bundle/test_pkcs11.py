"""Approval and release with a key that never leaves a PKCS#11 token (SoftHSM), by the agent."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from python_plugins.tests.bundle.ceremony_helpers import Ceremony, make_keys
from python_plugins.tests.bundle.helpers import NOW, Maker, Site
from tresor.bundle import ceremony, openssh, sshsig
from tresor.bundle.canonical import sha256_hex
from tresor.bundle.errors import UsageError

LIBRARY = "/usr/lib/softhsm/libsofthsm2.so"
_PIN = "1234"


def _run(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give a token with one P-256 key, loaded into an agent; the path is that of its .pub."""
    (tmp_path / "tokens").mkdir()
    configuration = tmp_path / "softhsm2.conf"
    configuration.write_text(f"directories.tokendir = {tmp_path}/tokens\n")
    monkeypatch.setenv("SOFTHSM2_CONF", str(configuration))
    _run(
        "softhsm2-util",
        "--init-token",
        "--free",
        "--label",
        "t",
        "--pin",
        _PIN,
        "--so-pin",
        "98765",
    )
    _run(
        "pkcs11-tool", "--module", LIBRARY, "--login", "--pin", _PIN, "--keypairgen",
        "--key-type", "EC:prime256v1", "--label", "anna", "--id", "01", "--token-label", "t",
    )  # fmt: skip
    public = tmp_path / "anna.pub"
    public.write_text(_run("ssh-keygen", "-D", LIBRARY))
    said = _run("ssh-agent", "-s")
    socket, pid = re.findall(r"SSH_AUTH_SOCK=([^;]+)|SSH_AGENT_PID=(\d+)", said)
    ask = tmp_path / "ask"
    ask.write_text(f"#!/bin/sh\necho {_PIN}\n")
    ask.chmod(0o700)
    monkeypatch.setenv("SSH_AUTH_SOCK", socket[0])
    monkeypatch.setenv("SSH_ASKPASS", str(ask))
    monkeypatch.setenv("SSH_ASKPASS_REQUIRE", "force")
    try:
        _run("ssh-add", "-q", "-s", LIBRARY)
        yield public
    finally:
        os.kill(int(pid[1]), 15)


def test_token_signs_releases_and_approvals(
    token: Path, site: Site, maker: Maker, tmp_path: Path
) -> None:
    (tmp_path / "keys-of-roles").mkdir()
    vendor = Ceremony(make_keys(tmp_path / "keys-of-roles"), tmp_path / "roots")
    added = {
        "root": vendor.pub("root-a", "root-b", "root-c"),
        "targets": [token, *vendor.pub("ben", "cleo")],
        "builder": vendor.pub("builder"),
    }
    draft = ceremony.draft_root(vendor.roots, added, [], {}, NOW)
    maker.fingerprint = sha256_hex(vendor.sign(draft, "root-a", "root-b").read_bytes())
    maker.parts.pop("model-tiny")
    maker.make()
    release = ceremony.draft_release(maker.bundle, vendor.roots)
    ceremony.sign_draft(release, token, NOW)
    vendor.sign(release, "ben")
    ceremony.seal(maker.bundle, vendor.keys / "builder", NOW)
    site.take(maker, lab=False)
    with site.signers.open("a") as stream:
        stream.write(f'anna namespaces="tresor-approve" {openssh.read_public(token).text}\n')
    site.approve("anna", token)
    site.approve("bob")
    assert site.activate().state == "ACTIVE"


def test_without_the_token_nothing_is_signed(
    token: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "nobody"))
    with pytest.raises(UsageError, match=r"signature\.key-file"):
        sshsig.sign(token, b"data")

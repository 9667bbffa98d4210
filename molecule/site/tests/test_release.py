"""The store and the release by two people, looked at with sha256sum, find and ssh-keygen.

What must be refused is tried on a throw-away store with a bundle of a few KiB, signed here; the
lab's own store is only read.
"""

from __future__ import annotations

import hashlib
import io
import json
import shlex
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from testinfra.host import Host

from python_plugins.tests.bundle.complete import Complete
from python_plugins.tests.policy.bench import Bench
from tresor.bundle.signing import create_lab_keys

STORE = "/srv/tresor/store"
SIGNERS = "/etc/tresor/approvers/allowed_signers"
IMPORTER = "/usr/local/sbin/tresor-importer"
DISTRIBUTION = f"{STORE}/current/tree/distribution"
SERVED = "https://bastion1.site.example:8443/apt/debian-13/dists/site/Release"
AWAY = "/var/tmp/tresor-release-test"
STATES = ["META_VERIFIED", "FITS", "COPYING", "CONTENT_OK", "POLICY_OK", "AWAIT_APPROVAL", "ACTIVE"]
REASONS = {"reason.json", "timestamp.json", "1.root.json", "verdicts.json"}
LABCTL = Path(__file__).resolve().parents[2] / "lab" / "labctl"

Connect = Callable[[str], Host]


@pytest.fixture(scope="module")
def bastion(connect: Connect) -> Host:
    """Return the bastion."""
    return connect("bastion")


@pytest.fixture(scope="module")
def receipt(bastion: Host) -> dict[str, Any]:
    """Return the receipt of the running release."""
    found: dict[str, Any] = json.loads(bastion.check_output(f"cat {STORE}/current/receipt.json"))
    return found


# --- the lab's store


def test_contents_are_named_by_their_digest_and_read_only(bastion: Host) -> None:
    writable = f"find {STORE}/blobs -type f ( -perm /0222 -o ! -user root )"
    assert bastion.check_output(shlex.join(shlex.split(writable))) == ""
    assert bastion.check_output(f"find {STORE}/releases/*/tree -type f -perm /0222") == ""
    # The smallest, and some of the large ones.
    listing = f"find {STORE}/blobs -type f -size +1k -printf '%s %p\\n' | sort -n"
    sample = f"({listing} | head -n 20; {listing} | tail -n 3) | cut -d' ' -f2 | xargs sha256sum"
    rows = [line.split() for line in bastion.check_output(sample).splitlines()]
    assert len(rows) == 23
    assert all(Path(path).name == digest for digest, path in rows)


def test_current_leads_to_a_whole_release_of_the_same_inodes(bastion: Host) -> None:
    target = bastion.check_output(f"readlink {STORE}/current")
    assert target.startswith("releases/")
    tree = f"{STORE}/current/tree"
    path = bastion.check_output(f"find {tree}/ -name '*.safetensors' | head -n 1")
    digest = bastion.check_output(f"sha256sum {path}").split()[0]
    blob = f"{STORE}/blobs/{digest[:2]}/{digest}"
    inodes = bastion.check_output(f"stat -L -c %i {path} {blob}").split()
    assert inodes[0] == inodes[1]


def test_two_people_signed_what_runs(bastion: Host, receipt: dict[str, Any]) -> None:
    digest = receipt["bundle_sha256"]
    people = {row["person"]: row["key"] for row in receipt["approvals"]}
    assert len(people) >= 2
    assert len(set(people.values())) == len(people)
    for person, key in people.items():
        signature = f"{STORE}/state/approvals/{digest}/{person}.sig"
        check = f"ssh-keygen -Y verify -f {SIGNERS} -I {person} -n tresor-approve -s {signature}"
        said = bastion.check_output(f"echo sha256:{digest} | {check}")
        assert key in said
        other = next(name for name in people if name != person)
        for wrong in (
            f"echo sha256:{'0' * 64} | {check}",
            f"echo sha256:{digest} | {check.replace(f'-I {person}', f'-I {other}')}",
            f"echo sha256:{digest} | {check.replace('tresor-approve', 'file')}",
        ):
            # ssh-keygen ends with 255, which over ssh would stand for a lost connection.
            assert bastion.run(f"! ({wrong})").rc == 0, wrong


@pytest.mark.parametrize("name", ["journal.jsonl", "events.jsonl"])
def test_records_are_one_chain(bastion: Host, name: str) -> None:
    lines = bastion.check_output(f"cat {STORE}/state/{name}").encode().splitlines()
    previous = "0" * 64
    for line in lines:
        assert json.loads(line)["prev"] == previous
        previous = hashlib.sha256(line).hexdigest()


def test_journal_led_through_every_state(bastion: Host, receipt: dict[str, Any]) -> None:
    raw = bastion.check_output(f"cat {STORE}/state/journal.jsonl")
    steps = [json.loads(line) for line in raw.splitlines()]
    mine = [step["state"] for step in steps if step["bundle"] == receipt["bundle_sha256"]]
    first = [mine.index(state) for state in STATES]
    assert first == sorted(first)


def test_quarantine_holds_reasons_and_no_contents(bastion: Host) -> None:
    """The scenario's prepare step put tampered media into the lab's bastion."""
    raw = bastion.check_output(f"find {STORE}/quarantine -type f -printf '%f %s\\n'")
    rows = [line.rsplit(" ", 1) for line in raw.splitlines()]
    assert rows
    assert {name for name, _ in rows} <= REASONS
    assert max(int(size) for _, size in rows) < 64 * 1024
    rules = set()
    for text in bastion.check_output(f"cat {STORE}/quarantine/*/reason.json").splitlines():
        rules.add(json.loads(text)["rule"])
    assert {"content.digest", "content.missing", "medium.extra", "signature.mixed"} <= rules
    assert bastion.check_output(f"find {STORE}/staging -type f") == ""


def test_store_is_served_to_certificates_of_the_site_alone(connect: Connect) -> None:
    host = connect("ops1")
    ask = "curl -sS -o /dev/null -w %{http_code} --max-time 10 --cacert /etc/tresor/pki/ca.crt"
    mine = "--cert /etc/tresor/pki/host.crt --key /etc/tresor/pki/host.key"
    assert host.check_output(f"{ask} {mine} {SERVED}") == "200"
    without = host.run(f"{ask} {SERVED}")
    assert without.rc != 0 or without.stdout == "400"
    # A name of the store that is not part of the release, and a way out of it.
    for path in ("state/highwater.json", "%2e%2e/state/events.jsonl"):
        url = f"https://bastion1.site.example:8443/{path}"
        assert host.check_output(f"{ask} --path-as-is {mine} {url}") in ("400", "403", "404")


def test_module_tells_the_store_in_check_mode(bastion: Host, receipt: dict[str, Any]) -> None:
    before = bastion.check_output(f"sha256sum {STORE}/state/journal.jsonl {STORE}/state/*.json")
    done = bastion.run(
        f"cd {DISTRIBUTION} && ANSIBLE_NOCOLOR=1 ANSIBLE_LOAD_CALLBACK_PLUGINS=1 "
        "ANSIBLE_STDOUT_CALLBACK=ansible.builtin.json ANSIBLE_LIBRARY=python_plugins/modules "
        "ANSIBLE_MODULE_UTILS=python_plugins/module_utils "
        "$(ls -d /opt/tresor/ansible/*/bin/ansible | tail -n 1) -i localhost, -c local "
        "localhost --check -m tresor_bundle_info"
    )
    assert done.rc == 0, done.stdout + done.stderr
    play = json.loads(done.stdout[done.stdout.index("{") :])["plays"][0]
    answer = play["tasks"][0]["hosts"]["localhost"]
    assert answer["current"] == receipt["id"]
    assert not answer.get("changed")
    after = bastion.check_output(f"sha256sum {STORE}/state/journal.jsonl {STORE}/state/*.json")
    assert after == before


# --- what must be refused, on a throw-away store


@dataclass(frozen=True)
class Away:
    """A throw-away store on the bastion, and the medium beside it."""

    host: Host
    fingerprint: str

    def run(self, verb: str, *words: str) -> tuple[int, dict[str, Any]]:
        """Run the bastion's importer on it: status and JSON answer.

        Without a way to the system's log: what is tried here is no event of the site.
        """
        command = shlex.join([IMPORTER, verb, "--store", f"{AWAY}/store", "--json", *words])
        alone = f"mount -t tmpfs none /run/systemd/journal && exec {command}"
        done = self.host.run(f"unshare --mount sh -c {shlex.quote(alone)}")
        lines = done.stdout.strip().splitlines()
        return done.rc, json.loads(lines[-1]) if lines else {"errors": done.stderr}

    def take(self, fingerprint: str = "") -> tuple[int, dict[str, Any]]:
        """Import the bundle."""
        return self.run(
            "import", "--medium", f"{AWAY}/bundle", "--site", "bank-1", "--quiet",
            "--root-sha256", fingerprint or self.fingerprint, "--accept-scope", "lab",
        )  # fmt: skip

    def approve(self, person: str, key: str) -> tuple[int, dict[str, Any]]:
        """Approve as a person with somebody's key."""
        signers = ("--allowed-signers", f"{AWAY}/allowed_signers")
        return self.run("approve", *signers, "--person", person, "--key", f"{AWAY}/{key}")

    def activate(self) -> tuple[int, dict[str, Any]]:
        """Activate what waits."""
        return self.run("activate", "--allowed-signers", f"{AWAY}/allowed_signers")


@pytest.fixture(scope="module")
def away(bastion: Host, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Away]:
    """Bring a small complete bundle and two people to the bastion; everything goes afterwards."""
    folder = tmp_path_factory.mktemp("release")
    keys = folder / "keys"
    maker = Complete(folder / "medium", keys, create_lab_keys(keys), bench=Bench(folder / "bench"))
    maker.make()
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w:gz") as archive:
        archive.add(maker.bundle, "bundle")
    make = "; ".join(
        f"ssh-keygen -q -t ed25519 -N '' -C {name} -f {AWAY}/{name} && "
        f'echo "{name} namespaces=\\"tresor-approve\\" $(cat {AWAY}/{name}.pub)" '
        f">> {AWAY}/allowed_signers"
        for name in ("ada", "bob")
    )
    bastion.check_output(f"rm -rf {AWAY}; install -d -m 0700 {AWAY}")
    try:
        subprocess.run(
            [str(LABCTL), "exec", "bastion", "tar", "-C", AWAY, "-xz", "--no-same-owner"],
            input=raw.getvalue(),
            check=True,
        )
        bastion.check_output(f"umask 022; {make}")
        yield Away(bastion, maker.fingerprint)
    finally:
        bastion.check_output(f"chmod -R u+w {AWAY}; rm -rf {AWAY}")


def test_release_needs_two_people_and_scrub_finds_one_changed_byte(away: Away) -> None:
    status, answer = away.take("0" * 64)
    assert (status, answer["rule"]) == (3, "signature.root-fingerprint")
    _tampered(away)
    status, answer = away.take()
    assert (status, answer.get("state")) == (0, "AWAIT_APPROVAL"), answer
    assert away.approve("ada", "ada")[0] == 0
    # The same person again adds nothing, nor does her key under the other's name.
    away.approve("ada", "ada")
    status, answer = away.approve("bob", "ada")
    assert (status, answer["rule"]) == (3, "approval.signature")
    status, answer = away.activate()
    assert (status, answer["rule"]) == (3, "approval.count")
    assert away.host.run(f"test -e {AWAY}/store/current").rc != 0
    assert away.approve("bob", "bob")[0] == 0
    status, answer = away.activate()
    assert (status, answer.get("state")) == (0, "ACTIVE"), answer
    receipt = json.loads(away.host.check_output(f"cat {AWAY}/store/current/receipt.json"))
    assert {row["person"] for row in receipt["approvals"]} == {"ada", "bob"}
    status, answer = away.run("scrub")
    assert (status, answer["ok"]) == (0, True)
    flip = (
        f"f=$(find {AWAY}/store/current/tree/ -name model.safetensors); chmod u+w $f; "
        "printf '\\001' | dd of=$f bs=1 seek=$(($(stat -c %s $f) - 1)) conv=notrunc status=none; "
        "chmod 0444 $f"
    )
    away.host.check_output(flip)
    status, answer = away.run("scrub")
    assert status == 3
    assert any("model.safetensors" in item for item in answer["findings"])


def _tampered(away: Away) -> None:
    """Change a byte on the medium: refused, with a reason and without the contents; undo it."""
    names = away.host.check_output(f"find {AWAY}/bundle/blobs -type f -size +0 | sort").split()
    victim = names[len(names) // 2]
    away.host.check_output(f"cp {victim} {AWAY}/kept && printf X | dd of={victim} bs=1 count=1 "
                           "conv=notrunc status=none")  # fmt: skip
    if away.host.run(f"cmp -s {victim} {AWAY}/kept").rc == 0:
        away.host.check_output(f"printf Y | dd of={victim} bs=1 count=1 conv=notrunc status=none")
    status, answer = away.take()
    assert (status, answer["rule"]) == (3, "content.digest")
    kept = away.host.check_output(f"find {AWAY}/store/quarantine -type f -printf '%f\\n'").split()
    assert "reason.json" in kept
    assert set(kept) <= REASONS
    assert away.host.check_output(f"find {AWAY}/store/blobs {AWAY}/store/staging -type f") == ""
    away.host.check_output(f"cp {AWAY}/kept {victim} && rm {AWAY}/kept")

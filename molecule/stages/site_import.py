"""Stage import: the medium on the bastion -> verified, approved by two people, active."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from stages import bundle
from stages.shell import BUILD, lab, on_host, output, put, run

MOUNT = "/media/tresor"
IMPORTER = f"{MOUNT}/bundle/bootstrap/importer.pyz"
STORE = "/srv/tresor/store"
SITE = "lab"
# Generated people: an unattended demo has no humans. Their keys live in build/ and only there.
APPROVERS = ("lab-approver-1", "lab-approver-2")
NAMESPACE = "tresor-approve"
_SIGNERS = "/etc/tresor/approvers/allowed_signers"


def approver_keys() -> dict[str, Path]:
    """Make the two approvers' key pairs once and tell the bastion their public halves."""
    folder = BUILD / "approvers"
    folder.mkdir(parents=True, exist_ok=True)
    keys = {person: folder / person for person in APPROVERS}
    lines = []
    for person, key in keys.items():
        if not key.exists():
            run(
                ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", person, "-f", str(key)],
                what=f"make the key of {person}",
            )
        public = key.with_suffix(".pub").read_text(encoding="utf-8").strip()
        lines.append(f'{person} namespaces="{NAMESPACE}" {public}\n')
    put("bastion", _SIGNERS, "".join(lines).encode())
    return keys


def importer(*arguments: str) -> list[str]:
    """Return the command line that runs the importer on the bastion."""
    return on_host("bastion", "python3", "-I", IMPORTER, *arguments)


def root_fingerprint(bundle: Path) -> str:
    """Return the sha256 of the trusted root, which a site gets out of band, on paper."""
    return hashlib.sha256((bundle / "tuf" / "1.root.json").read_bytes()).hexdigest()


def check_importer(bundle: Path) -> None:
    """Compare the importer on the medium with the fingerprint given out of band."""
    expected = hashlib.sha256((bundle / "bootstrap" / "importer.pyz").read_bytes()).hexdigest()
    seen = output(on_host("bastion", "sha256sum", IMPORTER), what="hash the importer").split()[0]
    if seen != expected:
        raise ValueError(f"importer.pyz on the medium has sha256 {seen}, expected {expected}")


def supersede(built: Path) -> Path:
    """Return a bundle the bastion can take: with the next serial where another one is active.

    A lab that stays up between two runs has imported the former working tree under this serial.
    """
    (target,) = (built / "targets").glob("*.bundle.json")
    mark = f"{STORE}/state/highwater.json"
    text = output(
        on_host("bastion", "sh", "-c", f"if [ -e {mark} ]; then cat {mark}; fi"),
        what="read the high-water mark",
    )
    known = json.loads(text) if text.strip() else None
    if known is None or known["bundle_sha256"] == target.name.partition(".")[0]:
        return built
    return bundle.build(serial=known["serial"] + 1)


def import_bundle(built: Path) -> None:
    """Mount the medium, import, have two people approve, activate, bootstrap Ansible."""
    run(lab("unmount-medium", "bastion"), what="unmount the medium")
    run(lab("mount-medium", "bastion", str(built.parent)), what="mount the medium")
    check_importer(built)
    run(
        importer(
            "import", "--medium", f"{MOUNT}/bundle", "--store", STORE, "--site", SITE,
            "--root-sha256", root_fingerprint(built), "--accept-scope", "lab",
        ),
        what="import",
    )  # fmt: skip
    for person, key in approver_keys().items():
        remote = f"/run/{person}.key"
        put("bastion", remote, key.read_bytes(), mode="0600")
        run(
            importer("approve", "--store", STORE, "--key", remote, "--person", person),
            what=f"approval by {person}",
        )
        run(on_host("bastion", "rm", remote), what=f"remove the key of {person}")
    run(importer("activate", "--store", STORE), what="activate")
    run(importer("bootstrap", "--store", STORE), what="bootstrap Ansible")

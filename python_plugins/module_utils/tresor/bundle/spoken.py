"""What a root or a release says, in words that can be read out at a ceremony."""

from __future__ import annotations

from pathlib import Path

from tuf.api.metadata import Root, Targets

from .canonical import sha256_hex
from .ceremony import DRAFT, judges_of, load, missing
from .errors import UsageError
from .journal import time_text
from .metadata import only_manifest
from .openssh import parse_public
from .report import size
from .rolekeys import EXPIRES_FIELD, name_of
from .sshsig import KEYTYPE
from .trust import TARGET_NAME


def describe(file: Path) -> str:
    """Return what a root, a release or a draft of them says, in words.

    Raises:
        UsageError: it is neither.
    """
    metadata = load(file)
    lines = (
        _root_words(metadata.signed) if isinstance(metadata.signed, Root)
        else _release_words(file, metadata.signed)
    )  # fmt: skip
    if file.name.endswith(DRAFT):
        role, judges = judges_of(file, metadata)
        for judge in judges:
            signed = judge.get_verification_result(
                role, metadata.signed_bytes, metadata.signatures
            ).signed
            names = ", ".join(sorted(name_of(key, "") for key in signed.values())) or "nobody"
            lines.append(
                f"signed by {names}; {missing(judge, role, metadata)} more needed "
                f"by root {judge.version}"
            )
        lines.append("DRAFT: no importer takes this yet")
    elif isinstance(metadata.signed, Root) and metadata.signed.version == 1:
        lines.append(f"FINGERPRINT for paper: {sha256_hex(file.read_bytes())}")
    return "\n".join(lines)


def _root_words(root: Root) -> list[str]:
    lines = [f"root {root.version}, ends {time_text(root.expires)}"]
    titles = {"root": "may change the keys", "targets": "may release", "snapshot": "builder"}
    for role, title in titles.items():
        entry = root.roles[role]
        lines.append(f"{title}: {entry.threshold} of {len(entry.keyids)}")
        for keyid in sorted(entry.keyids):
            key = root.keys[keyid]
            kind, _, _ = key.keyval["public"].partition(" ")
            end = key.unrecognized_fields.get(EXPIRES_FIELD, "the end of this root")
            shown = (
                parse_public(key.keyval["public"]).fingerprint
                if key.keytype == KEYTYPE
                else keyid[:16]
            )
            lines.append(f"  {name_of(key, '') or '(no name)'}  {kind}  {shown}  until {end}")
            if role != "snapshot" and not kind.startswith("sk-"):
                lines[-1] += "  (not a FIDO2 key)"
    return lines


def _release_words(file: Path, release: Targets) -> list[str]:
    lines = [f"release {release.version}, ends {time_text(release.expires)}"]
    entry = release.targets.get(TARGET_NAME)
    if entry is None:
        raise UsageError("keys.form", "releases no bundle", str(file))
    lines.append(f"manifest sha256:{entry.hashes['sha256']}, {entry.length} bytes")
    try:
        manifest, _ = only_manifest(file.parent.parent)
    except UsageError:
        return lines
    if manifest.digest != entry.hashes["sha256"]:
        raise UsageError("keys.form", "the bundle beside it is another one", str(file))
    lines.append(f"bundle {manifest.id}, serial {manifest.serial}, {size(manifest.total_bytes())}")
    lines += [
        f"  {part.name} ({part.type}, {part.scope}): {len(part.files)} files, "
        f"{size(sum(entry.size for entry in part.files))}"
        for part in manifest.parts
    ]
    return lines

"""Stage delta: the site exports what it has, the builder carries only the rest, two people release.

Boots the bastion alone and leaves it up; `destroy` removes it. A new adapter of some GB stands for
what a site gets between two full bundles. Deltas for another state or another site are refused.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import struct
import subprocess
from collections.abc import Mapping
from pathlib import Path

import yaml

from stages import boot, bundle, site_import
from stages.shell import BUILD, REPOSITORY, StageError, lab, on_host, output, python, run
from tresor.bundle.canonical import dump_canonical

ADAPTER_BYTES = 2 * 1024**3
"""So that the manifest of the whole release and the importer weigh less than a thousandth."""
MOST_RATIO = 1.001
PART = "model-delta-adapter"
_WORK = BUILD / "delta"
_OUT = "/run/tresor-inventory"
_KEY = "/etc/tresor/inventory-key"
_IMPORTER = "/usr/local/sbin/tresor-importer"
_REVISION = "0123456789abcdef0123456789abcdef01234567"
_CHUNK = 16 * 1024**2
_RULE = re.compile(r'"rule": "([a-z.-]+)"')


def main() -> None:
    """Run the whole stage.

    Raises:
        StageError: a delta is too big, was not taken, or was taken where it must not be.
    """
    boot.preflight()
    built = boot.trees_and_bundle()
    boot.hosts("bastion")
    site_import.import_bundle(site_import.supersede(built))
    shutil.rmtree(_WORK, ignore_errors=True)
    _WORK.mkdir(parents=True)
    first = export("first")
    serial = int(json.loads((first / "inventory.json").read_bytes())["serial"])
    _spec()
    delta = build(first, serial + 1, "delta")
    figures = measure(delta, first)
    site_import.import_bundle(delta)
    _is_active(serial + 1)
    # The adapter came: an inventory written now leaves it out as well.
    second = export("second")
    if not _blobs(delta) <= set(json.loads((second / "inventory.json").read_bytes())["blobs"]):
        raise StageError("the site's new inventory lacks what the delta brought")
    _refused_by_builder(second)
    refused(build(first, serial + 2, "old-base"), "fit.base")
    refused(build(_other_site(second), serial + 3, "other-site"), "fit.site")
    _is_active(serial + 1)
    print(json.dumps(figures, sort_keys=True), flush=True)


def export(name: str) -> Path:
    """Let the bastion write its signed inventory; return the folder it was brought to."""
    script = (
        f"umask 077; mkdir -p {_OUT}; "
        f"[ -e {_KEY} ] || ssh-keygen -q -t ed25519 -N '' -C {site_import.SITE} -f {_KEY}"
    )
    run(on_host("bastion", "sh", "-euc", script), what="make the site's key")
    run(
        on_host("bastion", _IMPORTER, "inventory", "--out", _OUT, "--key", _KEY),
        what="export the inventory",
    )
    folder = _WORK / name
    folder.mkdir()
    for file in ("inventory.json", "inventory.json.sig"):
        text = output(on_host("bastion", "cat", f"{_OUT}/{file}"), what=f"read {file}")
        (folder / file).write_text(text, encoding="utf-8")
    public = output(on_host("bastion", "cat", f"{_KEY}.pub"), what="read the site's public key")
    _signers(folder, site_import.SITE, public)
    return folder


def build(inventory: Path, serial: int, name: str) -> Path:
    """Build a delta on an inventory; return its folder."""
    run(_build(inventory, serial, name), what=f"build {name}")
    return _WORK / name / "medium" / "bundle"


def measure(delta: Path, inventory: Path) -> dict[str, float]:
    """Compare what the medium carries with the contents that the site lacks.

    Raises:
        StageError: it carries more than a thousandth beside them, or something the site has.
    """
    held = set(json.loads((inventory / "inventory.json").read_bytes())["blobs"])
    carried = _blobs(delta)
    if carried & held or not carried:
        raise StageError(f"the delta carries {len(carried & held)} contents that the site has")
    new = sum(path.stat().st_size for path in (delta / "blobs").rglob("*") if path.is_file())
    size = sum(path.stat().st_size for path in delta.rglob("*") if path.is_file())
    figures = {
        "delta_bytes": size,
        "new_bytes": new,
        "delta_x_new": round(size / new, 6),
        "beside_bytes": size - new,
        "contents": len(carried),
        "contents_left_out": len(held),
    }
    print(f"delta: {figures}", flush=True)
    if size / new > MOST_RATIO:
        raise StageError(f"the delta is {size / new:.6f} of what is new, at most {MOST_RATIO}")
    return figures


def refused(delta: Path, rule: str) -> None:
    """Let the bastion refuse a delta by a rule.

    Raises:
        StageError: it did not, or for another reason.
    """
    run(lab("unmount-medium", "bastion"), what="unmount the medium")
    run(lab("mount-medium", "bastion", str(delta.parent)), what="mount the medium")
    command = on_host(
        "bastion", _IMPORTER, "import", "--json", "--quiet",
        "--medium", f"{site_import.MOUNT}/bundle", "--store", site_import.STORE,
        "--site", site_import.SITE, "--accept-scope", "lab",
    )  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    run(lab("unmount-medium", "bastion"), what="unmount the medium")
    found = _RULE.search(done.stdout)
    if done.returncode != 3 or found is None or found[1] != rule:
        raise StageError(f"{delta.parent.parent.name}: expected {rule}, got {done.stdout[-500:]}")
    print(f"delta: {delta.parent.parent.name} refused by {rule}", flush=True)


def _refused_by_builder(inventory: Path) -> None:
    """Let the builder refuse a list that was changed on its way."""
    folder = _WORK / "changed"
    shutil.copytree(inventory, folder)
    path = folder / "inventory.json"
    path.write_bytes(path.read_bytes().replace(b'"serial":', b'"serial": '))
    done = subprocess.run(
        _build(folder, 10**6, "changed"), capture_output=True, text=True, check=False
    )
    if done.returncode != 2 or "is not signed by site" not in done.stderr:
        raise StageError(f"the builder took a changed inventory: {done.stderr[-500:]}")


def _other_site(inventory: Path) -> Path:
    """Return another site's inventory, rightly signed: of the same release."""
    folder = _WORK / "bank-2"
    folder.mkdir()
    key = folder / "key"
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], what="make a key")
    listing = json.loads((inventory / "inventory.json").read_bytes())
    path = folder / "inventory.json"
    path.write_bytes(dump_canonical({**listing, "site": "bank-2"}))
    sign = ["ssh-keygen", "-q", "-Y", "sign", "-f", str(key), "-n", "tresor-inventory", str(path)]
    run(sign, what="sign as another site")
    _signers(folder, "bank-2", key.with_suffix(".pub").read_text(encoding="utf-8"))
    return folder


def _signers(folder: Path, site: str, public: str) -> None:
    line = f'{site} namespaces="tresor-inventory" {public.strip()}\n'
    (folder / "signers").write_text(line, encoding="utf-8")


def _build(inventory: Path, serial: int, name: str) -> list[str]:
    words = ["-m", "bundle.builder", "build", "--out", str(_WORK / name / "medium")]
    words += ["--keys", str(bundle.KEYS), "--serial", str(serial)]
    words += ["--spec", str(_WORK / "spec"), "--lock-dir", str(_WORK / "lock")]
    words += ["--inventory", str(inventory / "inventory.json")]
    words += ["--inventory-signers", str(inventory / "signers"), "--relock-missing"]
    return _with_hub(python(*words))


def _spec() -> None:
    """Take the spec and the locks of the bundle that runs, and add the adapter."""
    shutil.copytree(REPOSITORY / "bundle" / "spec", _WORK / "spec")
    shutil.copytree(bundle.BUNDLE.parent / "lock", _WORK / "lock")
    adapter(_WORK / "hub" / "lab" / "adapter")
    hub = {"sources": {"hub": {"type": "huggingface", "base": str(_WORK / "hub")}}}
    (_WORK / "sources.yml").write_text(yaml.safe_dump(hub), encoding="utf-8")
    source = {"snapshot_of": "hub", "repository": "lab/adapter", "revision": _REVISION}
    part: Mapping[str, object] = {
        "name": PART,
        "type": "model",
        "license": "Apache-2.0",
        "source": source,
    }
    text = yaml.safe_dump({"parts": [part]})
    (_WORK / "spec" / "lab" / "delta.yml").write_text(text, encoding="utf-8")
    words = ["-m", "bundle.builder", "lock", "--part", PART]
    words += ["--spec", str(_WORK / "spec"), "--lock-dir", str(_WORK / "lock")]
    run(_with_hub(python(*words)), what="lock the adapter")


def adapter(folder: Path) -> None:
    """Write an adapter in the form that engines load, of random weights."""
    folder.mkdir(parents=True)
    config = {"peft_type": "LORA", "r": 8, "lora_alpha": 16, "target_modules": ["q_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    tensor = {"dtype": "U8", "shape": [ADAPTER_BYTES], "data_offsets": [0, ADAPTER_BYTES]}
    header = json.dumps({"lora_A.weight": tensor}).encode()
    with (folder / "adapter_model.safetensors").open("wb") as target:
        target.write(struct.pack("<Q", len(header)) + header)
        for _ in range(ADAPTER_BYTES // _CHUNK):
            target.write(os.urandom(_CHUNK))


def _with_hub(command: list[str]) -> list[str]:
    return ["env", f"TRESOR_SOURCES={_WORK / 'sources.yml'}", *command]


def _blobs(folder: Path) -> set[str]:
    return {path.name for path in (folder / "blobs").rglob("*") if path.is_file()}


def _is_active(serial: int) -> None:
    text = output(
        on_host("bastion", "cat", f"{site_import.STORE}/current/release.json"), what="read release"
    )
    seen = json.loads(text)["tresor_release"]["serial"]
    if seen != serial:
        raise StageError(f"serial {seen} is active, not {serial}")

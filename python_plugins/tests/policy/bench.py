"""A bundle in memory with everything the gates want to see; tests take one thing away."""

from __future__ import annotations

import copy
import hashlib
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from bundle.tests import makers
from tresor.bundle.manifest import dump_canonical, parse_manifest
from tresor.policy import evaluate, purl
from tresor.policy.rules import Declarations, SiteRules
from tresor.policy.verdict import Verdict
from tresor.policy.view import BundleView

NOW = datetime(2026, 11, 25, 12, 0, 0, tzinfo=UTC)
CREATED = datetime(2026, 11, 24, tzinfo=UTC)
SITE = "bank-1"
TEMPLATE = "{% for m in messages %}{{ m['role'] ~ ': ' ~ m['content'] }}{% endfor %}"
REASON = "A reason that explains why this is harmless here."
Files = dict[str, bytes]


def stamp(moment: datetime) -> str:
    """Return a time as documents write it."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def sha(raw: bytes) -> str:
    """Return the SHA-256 of ``raw`` in hex."""
    return hashlib.sha256(raw).hexdigest()


def environment(*wheels: tuple[str, bytes]) -> Files:
    """Return the files of an environment: wheels, pins, description."""
    files = dict(wheels)
    pins = ""
    for file, raw in sorted(wheels):
        name, version = file.split("-")[:2]
        pins += f"{name.replace('_', '-')}=={version} --hash=sha256:{sha(raw)}\n"
    return {**files, "requirements.txt": pins.encode(), "environment.json": b"{}"}


def repository(*packages: tuple[str, str, bytes]) -> Files:
    """Return the files of a package repository of (name, version, content)."""
    pool: Files = {}
    stanzas = []
    for name, version, raw in packages:
        path = f"pool/{name}_{version.partition(':')[2] or version}_amd64.deb"
        pool[path] = raw
        stanzas.append(
            f"Package: {name}\nVersion: {version}\nArchitecture: amd64\n"
            f"Filename: {path}\nSize: {len(raw)}\nSHA256: {sha(raw)}\n"
        )
    return {**pool, **indexed("\n".join(stanzas).encode())}


def indexed(index: bytes) -> Files:
    """Return ``Packages`` and the ``Release`` over it."""
    release = f"Suite: site\nSHA256:\n {sha(index)} {len(index)} main/binary-amd64/Packages\n"
    return {
        "dists/site/main/binary-amd64/Packages": index,
        "dists/site/Release": release.encode(),
    }


def model(**changes: bytes | None) -> Files:
    """Return the files of a model; a change of None removes a file (``__`` stands for ``.``)."""
    files: Files = {
        "model.safetensors": makers.safetensors(),
        "config.json": b'{"architectures": ["LlamaForCausalLM"], "rms_norm_eps": 1e-05}',
        "tokenizer.json": b'{"model": {"vocab": {"auto_map": 1, "a": 2}}}',
        "chat_template.jinja": TEMPLATE.encode(),
    }
    for key, raw in changes.items():
        path = key.replace("__", ".")
        files.pop(path, None)
        if raw is not None:
            files[path] = raw
    return files


def npm_tree(*packages: tuple[str, str, bytes]) -> Files:
    """Return the files of an npm tree of (name, version, tarball)."""
    rows = []
    files: Files = {}
    for name, version, raw in packages:
        file = f"{name.removeprefix('@').replace('/', '-')}-{version}.tgz"
        files[file] = raw
        rows.append(
            {"path": f"node_modules/{name}", "file": file, "name": name, "version": version}
        )
    return {**files, "package-tree.json": json.dumps(rows).encode()}


def default_parts() -> dict[str, tuple[str, Files]]:
    """Return one part of each kind, all good."""
    demo = {"name": "demo", "version": "1.0.0", "license": "MIT"}
    return {
        "wheels-app": ("wheels", environment(makers.wheel("demo-app", "1.0", {"demo.py": b"1"}))),
        "debs-debian-12": ("debs", repository(("curl", "7.88", makers.deb("curl", "7.88")))),
        "model-tiny": ("model", model()),
        "npm-idp": ("npm", npm_tree(("demo", "1.0.0", makers.tarball(demo)))),
        "distribution": ("distribution", {"playbooks/site.yml": b"---\n"}),
    }


@dataclass
class Bench:
    """Makes a view of a bundle below a folder.

    Attributes:
        folder: where contents lie.
        parts: part name -> (type, files).
        templates: pinned template by model.
        declared, rules, site, now: as in the view.
        scan, installed: see the view.
        report, bill, vex, advisories: bytes instead of the right document; None leaves it out.
    """

    folder: Path
    parts: dict[str, tuple[str, Files]] = field(default_factory=default_parts)
    templates: dict[str, str] = field(default_factory=lambda: {"tiny": sha(TEMPLATE.encode())})
    licence: str = "Apache-2.0"
    declared: Declarations = field(default_factory=Declarations)
    rules: SiteRules = field(default_factory=SiteRules)
    site: str = SITE
    now: datetime = NOW
    scan: bytes | None = b"auto"
    installed: bytes | None = None
    vex: bytes | None = None
    bill_change: Any = None
    report_change: Any = None
    evidence: bool = True

    def bill(self) -> dict[str, Any]:
        """Return the bill of materials over the parts."""
        components: list[dict[str, Any]] = []
        for name, (kind, files) in sorted(self.parts.items()):
            owner: dict[str, Any] | None = None
            for path, raw in sorted(files.items()):
                place = {"name": "tresor:place", "value": f"{name}/{path}"}
                leaf = {"hashes": [{"alg": "SHA-256", "content": sha(raw)}], "properties": [place]}
                identity = _identity(kind, path)
                if identity:
                    components.append({"type": "library", **identity, **leaf})
                    continue
                if owner is None:
                    owner = _owner(name, kind, self.licence)
                    components.append(owner)
                owner["components"].append({"type": "file", "name": path, **leaf})
        return {"bomFormat": "CycloneDX", "specVersion": "1.6", "components": components}

    def report(self, bill: bytes) -> dict[str, Any]:
        """Return a vulnerability report without findings over ``bill``."""
        return {
            "schema": "vulnerability-report/v1",
            "sbom_sha256": sha(bill),
            "scanner": {"name": "test", "version": "1"},
            "created": stamp(CREATED),
            "database": {"name": "OSV", "date": stamp(CREATED - timedelta(days=1)), "sha256": "0"},
            "audited": [item["purl"] for item in json.loads(bill)["components"]],
            "findings": [],
        }

    def documents(self) -> dict[str, tuple[str, Files]]:
        """Return the evidence parts."""
        bill = self.bill()
        if self.bill_change:
            self.bill_change(bill)
        raw = dump_canonical(bill)
        report = self.report(raw)
        if self.report_change:
            report = self.report_change(report) or report
        found: dict[str, tuple[str, Files]] = {
            "policy-sbom": ("sbom", {"sbom.cdx.json": raw}),
            "policy-report": ("report", {"report.json": json.dumps(report).encode()}),
        }
        if self.vex is not None:
            found["policy-vex"] = ("vex", {"vex.json": self.vex})
        return found

    def view(self) -> BundleView:
        """Write the contents and return the view."""
        parts = copy.copy(self.parts)
        if self.evidence:
            parts |= self.documents()
        rows = []
        self.folder.mkdir(exist_ok=True)
        for name, (kind, files) in sorted(parts.items()):
            entries = []
            for path, raw in sorted(files.items()):
                (self.folder / sha(raw)).write_bytes(raw)
                entries.append({"path": path, "size": len(raw), "sha256": sha(raw)})
            rows.append({"name": name, "type": kind, "scope": "product", "files": entries})
        models = [
            {
                "name": name.removeprefix("model-"),
                "revision": "abc123",
                "format": "safetensors",
                "license": self.licence,
                **_pin(self.templates.get(name.removeprefix("model-"))),
            }
            for name, (kind, _) in sorted(parts.items())
            if kind == "model"
        ]
        raw = dump_canonical(
            {
                "schema": "bundle/v1",
                "id": "2026.11-1",
                "serial": 1,
                "created": stamp(CREATED),
                "expires": "2027-11-20T00:00:00Z",
                "audience": {"site": "*", "arch": ["amd64"], "os": ["debian-12"]},
                "base": None,
                "parts": rows,
                "models": models,
            }
        )
        scan = good_scan(self.parts) if self.scan == b"auto" else self.scan
        return BundleView(
            parse_manifest(raw),
            lambda digest: self.folder / digest,
            self.site,
            self.now,
            self.rules,
            self.declared,
            read_declared=False,
            installed=self.installed,
            scan=scan,
        )

    def verdicts(self) -> list[Verdict]:
        """Run all gates."""
        return evaluate.evaluate(self.view())

    def refused(self) -> list[str]:
        """Return the rules that refuse the bundle, each once, in order."""
        return list(dict.fromkeys(item.rule for item in evaluate.refusals(self.verdicts())))


def good_scan(parts: dict[str, tuple[str, Files]]) -> bytes:
    """Return a scan's report that saw everything."""
    scanned = {sha(raw) for _, files in parts.values() for raw in files.values()}
    return json.dumps(
        {
            "schema": "malware-scan/v1",
            "engine": "test 1",
            "signatures": [{"name": "daily", "date": stamp(CREATED), "sha256": "0"}],
            "self_test": True,
            "scanned": sorted(scanned),
            "infected": [],
            "failed": [],
        }
    ).encode()


def _pin(template: str | None) -> dict[str, str]:
    return {"template_sha256": template} if template else {}


def _identity(kind: str, path: str) -> dict[str, Any] | None:
    licences = [{"expression": "MIT"}]
    if kind == "wheels" and path.endswith(".whl"):
        name, version = path.split("-")[:2]
        name = name.replace("_", "-")
        url = purl.make("pypi", name, version)
    elif kind == "debs" and path.startswith("pool/") and path.count("_") == 2:
        name, version = path.removeprefix("pool/").split("_")[:2]
        url = purl.make("deb", name, version, namespace="debian", arch="amd64")
    elif kind == "npm" and path.endswith(".tgz"):
        name, _, version = path.removesuffix(".tgz").rpartition("-")
        url = purl.make("npm", name, version)
    else:
        return None
    return {"name": name, "version": version, "purl": url, "licenses": licences}


def _owner(name: str, kind: str, licence: str) -> dict[str, Any]:
    bare = name.removeprefix("model-") if kind == "model" else name
    version = "abc123" if kind == "model" else "2026.11-1"
    return {
        "type": "machine-learning-model" if kind == "model" else "application",
        "name": bare,
        "version": version,
        "purl": purl.make("generic", bare, version),
        "licenses": [{"expression": licence if kind == "model" else "Apache-2.0"}],
        "components": [],
    }

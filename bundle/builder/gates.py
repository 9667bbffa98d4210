"""The importer's gates, run before the medium is written: what a site would refuse is not built.

The same code decides here and there. Here its answers are remembered by content, so a build of an
unchanged tree asks no gate twice.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

from bundle.builder.blobs import BlobStore
from bundle.builder.errors import PolicyError
from bundle.builder.evidence import code_digest, write_result
from bundle.builder.progress import say
from tresor.bundle.manifest import Part, parse_manifest
from tresor.policy import evaluate, rules
from tresor.policy.verdict import RED, RefusalError, Verdict
from tresor.policy.view import BundleView

# Evidence that only some builders can get; its absence is said, and every site decides for itself.
_SITES_DECIDE = ("vulnerabilities.no-database", "malware.missing")
_SHOWN = 12


def judge(
    raw: bytes,
    store: BlobStore,
    site_rules: rules.SiteRules,
    now: datetime,
    advisory_of: bytes | None,
) -> list[Verdict]:
    """Run the gates over a manifest whose contents are in the cache.

    Args:
        raw: the manifest.
        store: the cache.
        site_rules: what to judge by.
        now: the present time.
        advisory_of: the installed bill of materials, for an advisory bundle.

    Returns:
        All verdicts.
    """
    code = code_digest(Path(evaluate.__file__).parent)
    context = f"{code} {site_rules!r}"
    whole = hashlib.sha256(raw).hexdigest()
    # A day: what expires does so by date.
    path = _place(store, "bundle", f"{context} {whole} {now:%Y-%m-%d}")
    known = _recall(path)
    if known is not None:
        return known
    manifest = parse_manifest(raw)
    view = BundleView(
        manifest, store.path, manifest.audience.site, now, site_rules, installed=advisory_of
    )
    try:
        declared = evaluate.declarations(view)  # tells for which site the spec has waivers
    except RefusalError as error:
        raise PolicyError(f"policy of the spec: {error.seen}. {error.action}") from error
    sites = sorted({waiver.site for waiver in declared.waivers}) or [manifest.audience.site]
    view = BundleView(
        manifest,
        store.path,
        sites[0],
        now,
        site_rules,
        declared,
        read_declared=False,
        installed=advisory_of,
    )

    def remember(gate: str, part: Part, compute: Callable[[], list[Verdict]]) -> list[Verdict]:
        pins = [
            item.template_sha256 for item in manifest.models if part.name == f"model-{item.name}"
        ]
        place = _place(store, gate, f"{context} {part!r} {pins} {_sorted(declared)}")
        found = _recall(place)
        if found is None:
            found = compute()
            _keep(place, found)
        return found

    verdicts = evaluate.evaluate(view, remember)
    _keep(path, verdicts)
    return verdicts


def _sorted(declared: rules.Declarations) -> str:
    return repr(sorted((key, sorted(values)) for key, values in declared.allow.items()))


def _place(store: BlobStore, gate: str, inputs: str) -> Path:
    digest = hashlib.sha256(inputs.encode()).hexdigest()
    return store.cache / "results" / "gates" / gate / f"{digest}.json"


def _recall(path: Path) -> list[Verdict] | None:
    try:
        return [Verdict(**row) for row in json.loads(path.read_bytes())]
    except (OSError, ValueError, TypeError):
        return None


def _keep(path: Path, verdicts: Sequence[Verdict]) -> None:
    write_result(path, json.dumps([item.as_json() for item in verdicts]))


def require(verdicts: Sequence[Verdict]) -> None:
    """Say what is waived or missing, and refuse what no site would take.

    Raises:
        PolicyError: the message lists the refusals.
    """
    stops = evaluate.refusals(verdicts)
    hard = [item for item in stops if item.rule not in _SITES_DECIDE]
    if hard:
        more = f"\n  and {len(hard) - _SHOWN} more" if hard[_SHOWN:] else ""
        lines = "".join(f"\n  {item}" for item in hard[:_SHOWN])
        raise PolicyError(f"the gates refuse this bundle, nothing was written:{lines}{more}")
    for item in verdicts:
        if item.severity == RED:
            say(f"RED: {item.thing}: {item.seen}")
    for item in stops:
        say(f"SITES WILL REFUSE THIS BUNDLE: {item.thing}: {item.seen}. {item.action}")

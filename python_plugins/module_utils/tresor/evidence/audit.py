"""Count audit records by request id, and judge that none is missing or doubled."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .check import Check

_API: dict[tuple[str, str], str | None] = {
    ("GET", "/v1/models"): None,
    ("POST", "/v1/chat/completions"): "chat",
    ("POST", "/v1/completions"): "chat",
    ("POST", "/v1/messages"): "chat",
    ("POST", "/v1/responses"): "chat",
    ("POST", "/v1/embeddings"): "embedding",
    ("POST", "/v1/rerank"): "rerank",
}
"""What the policy gateway decides about, with the task a model needs for it to exist at all;
everything else NGINX refuses and logs itself."""

_SHOWN = 5
_MARKER = b'"request_id"'


def count_records(
    paths: Iterable[Path], wanted: Collection[str], since: float
) -> tuple[dict[str, int], list[str]]:
    """Count the JSON lines that bear a wanted request id.

    Args:
        since: files not written to after this time (seconds since the epoch) are skipped.

    Returns:
        The count of each wanted id that occurs, and what could not be read.
    """
    ids = frozenset(wanted)
    counts: Counter[str] = Counter()
    problems: list[str] = []
    for path in sorted(paths):
        try:
            if path.stat().st_mtime < since:
                continue
            with path.open("rb") as lines:
                counts.update(_ids(lines, ids))
        except OSError as error:
            problems.append(f"{path}: {error.strerror}")
    return dict(counts), problems


def judge_records(
    requests: Sequence[Mapping[str, Any]],
    decided: Mapping[str, int],
    refused_early: Mapping[str, int],
    problems: Sequence[str],
    *,
    source: str,
    tasks: Collection[str],
) -> list[Check]:
    """Return the two checks: of what the gateway decided, and of what NGINX refused itself.

    Args:
        requests: the requests that were answered: request_id, method, path, status.
        decided: audit records of the gateways by request id.
        refused_early: records of NGINX's own log by request id.
        problems: logs that could not be read; they fail both checks.
        tasks: what the site's models are for.
    """
    known = {call for call, task in _API.items() if task is None or task in tasks}
    api = [item for item in requests if (item["method"], item["path"]) in known]
    other = [item for item in requests if (item["method"], item["path"]) not in known]
    wrong_api = [_tell(item, decided) for item in api if decided.get(_id(item), 0) != 1]
    wrong_other = [
        _tell(item, refused_early)
        for item in other
        if not decided.get(_id(item), 0) + refused_early.get(_id(item), 0)
    ]
    found = sum(decided.get(_id(item), 0) for item in api)
    logged = len(other) - len(wrong_other)
    return [
        Check(
            id="audit.decisions",
            what="every request to the API has one audit record",
            source=source,
            target="audit log",
            expected=f"{len(api)} requests, one record each",
            observed=_seen(len(api), found, [*wrong_api, *problems]),
            ok=bool(api) and not wrong_api and not problems,
        ),
        Check(
            id="audit.refused_early",
            what="every request that NGINX refused itself is in its log",
            source=source,
            target="NGINX's log",
            expected=f"{len(other)} requests, a record of each",
            observed=_seen(len(other), logged, [*wrong_other, *problems]),
            ok=bool(other) and not wrong_other and not problems,
        ),
    ]


def _seen(asked: int, found: int, wrong: Sequence[str]) -> str:
    seen = [f"{asked} requests, {found} records", *wrong[:_SHOWN]]
    if len(wrong) > _SHOWN:
        seen.append(f"and {len(wrong) - _SHOWN} more")
    return "; ".join(seen)


def _tell(item: Mapping[str, Any], counts: Mapping[str, int]) -> str:
    count = counts.get(_id(item), 0)
    return f"{count} records of {item['check']} (request id {item['request_id']})"


def _id(item: Mapping[str, Any]) -> str:
    return str(item["request_id"])


def _ids(lines: Iterable[bytes], wanted: frozenset[str]) -> Iterable[str]:
    for line in lines:
        if _MARKER not in line:
            continue
        try:
            record = json.loads(line)
        except ValueError:
            continue  # a line being written right now; its absence shows as a missing record
        request_id = record.get("request_id") if isinstance(record, dict) else None
        if isinstance(request_id, str) and request_id in wanted:
            yield request_id

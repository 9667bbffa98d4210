"""Runs on the lab's bastion with the vector client's Python: fill a collection, search it.

Vectors are the same in every run. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import time
from pathlib import Path
from typing import Any

import numpy as np
from pymilvus import DataType

from tresor_vector.client.connection import Access, connect

SIZE, BATCH, QUERIES = 384, 1000, 10
PKI = Path("/etc/tresor/pki")


def vectors(count: int) -> Any:  # noqa: ANN401
    """Return the vectors, one a row."""
    return np.random.default_rng(384).standard_normal((count, SIZE), dtype=np.float32)


def fill(client: Any, name: str, count: int) -> dict[str, Any]:  # noqa: ANN401
    """Make the collection afresh and insert."""
    if client.has_collection(name):
        client.drop_collection(name)
    # An exact index: an approximate one may find other neighbours after a restart.
    index = client.prepare_index_params()
    index.add_index("vector", index_type="FLAT", metric_type="COSINE")
    schema = client.create_schema(auto_id=False, enable_dynamic_field=True)
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=SIZE)
    client.create_collection(name, schema=schema, index_params=index)
    content, began = vectors(count), time.monotonic()
    for start in range(0, count, BATCH):
        rows = [
            {"id": i, "vector": content[i].tolist(), "tag": f"row {i}"}
            for i in range(start, min(start + BATCH, count))
        ]
        client.insert(name, rows)
    inserted = time.monotonic()
    client.flush(name)
    return {
        "insert_seconds": round(inserted - began, 2),
        "flush_seconds": round(time.monotonic() - inserted, 2),
    }


def search(client: Any, name: str, count: int) -> dict[str, Any]:  # noqa: ANN401
    """Search for known rows; the digest stands for the ids that were found first."""
    client.load_collection(name)
    content = vectors(count)
    wanted = [(i * count) // QUERIES for i in range(QUERIES)]
    found, times = [], []
    for i in wanted:
        began = time.monotonic()
        hits = client.search(
            name, [content[i].tolist()], limit=10, output_fields=["tag"],
            consistency_level="Strong",
        )[0]  # fmt: skip
        times.append(time.monotonic() - began)
        found.append([hit["id"] for hit in hits])
    rows = client.query(name, "id >= 0", output_fields=["count(*)"], consistency_level="Strong")
    times.sort()
    return {
        "rows": int(rows[0]["count(*)"]),
        "own_first": sum(1 for i, ids in zip(wanted, found, strict=True) if ids[0] == i),
        "queries": QUERIES,
        "ids_sha256": hashlib.sha256(json.dumps([ids[0] for ids in found]).encode()).hexdigest(),
        "search_median_ms": round(times[len(times) // 2] * 1000, 1),
        "search_max_ms": round(times[-1] * 1000, 1),
    }


def main() -> None:
    """Run one verb."""
    parser = argparse.ArgumentParser()
    parser.add_argument(
        "verb", choices=["fill", "search", "insert-one", "delete-one", "drop", "has"]
    )
    parser.add_argument("collection")
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--host", default="vector1.site.example")
    parser.add_argument("--no-certificate", action="store_true")
    parser.add_argument("--user")
    parser.add_argument("--password-file", type=Path)
    parser.add_argument("--password")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    own = not options.no_certificate
    password = options.password
    if options.password_file:
        password = options.password_file.read_text().strip()
    client = connect(
        Access(
            f"https://{options.host}:19530", options.host, PKI / "ca.crt",
            PKI / "host.crt" if own else None, PKI / "host.key" if own else None, 60.0,
        ),
        options.user,
        password,
    )  # fmt: skip
    result: dict[str, Any] = {}
    if options.verb == "fill":
        result = fill(client, options.collection, options.count)
    elif options.verb == "search":
        result = search(client, options.collection, options.count)
    elif options.verb == "insert-one":
        row = {"id": options.count, "vector": vectors(1)[0].tolist(), "tag": "one more"}
        client.insert(options.collection, [row], timeout=10)
    elif options.verb == "delete-one":
        client.delete(options.collection, ids=[options.count])
    elif options.verb == "drop":
        client.drop_collection(options.collection)
    else:
        result = {"has": client.has_collection(options.collection)}
    print(json.dumps(result))


if __name__ == "__main__":
    main()

"""Count what of a run the collector has: received.py FILE RUN RECORDS; prints a JSON object."""

from __future__ import annotations

import hashlib
import json
import re
import sys
from pathlib import Path


def main() -> None:
    """Read the collector's file once, line by line."""
    path, run, records = sys.argv[1:4]
    mark = re.compile(rf"{re.escape(run)}-(\d+)")
    ids: dict[int, str] = {}
    owners: dict[str, int] = {}
    contents: dict[str, str] = {}
    doubles = strangers = altered = broken = 0
    with Path(path).open(encoding="utf-8") as stream:
        for line in stream:
            if run not in line:
                continue
            raw = json.loads(line)["raw"]
            try:
                document = json.loads(raw[raw.index("{") :])
            except ValueError:
                broken += 1
                continue
            if document["service"]["name"] == "siem-load":
                found = mark.match(document["message"])
            elif document["event"]["dataset"] == "tresor.audit":
                found = mark.fullmatch(document["tresor"]["audit"].get("request_id", ""))
            else:
                continue
            if found is None:
                broken += 1
                continue
            number, name = int(found[1]), document["event"]["id"]
            if number in ids:
                doubles += 1
                strangers += ids[number] != name
            ids.setdefault(number, name)
            if owners.setdefault(name, number) != number:
                strangers += 1
            digest = hashlib.sha256(raw.encode()).hexdigest()
            altered += contents.setdefault(name, digest) != digest
    print(
        json.dumps(
            {
                "received": len(ids),
                "lost": int(records) - len(ids),
                "doubles": doubles,
                "ids_that_differ": strangers,
                "doubles_that_differ": altered,
                "broken": broken,
            }
        )
    )


if __name__ == "__main__":
    main()

"""Write numbered records on a host: half audit lines, half journal entries, at an even rate.

load.py AUDIT_DIRECTORY RUN RECORDS SECONDS
"""

from __future__ import annotations

import hashlib
import json
import socket
import sys
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path

LINES_PER_FILE = 4000
JOURNAL = "/run/systemd/journal/socket"


class AuditFiles:
    """A writer's files as the policy gateway makes them: chained, a new one now and then."""

    def __init__(self, folder: Path, writer: str) -> None:
        self.folder = folder / writer
        self.folder.mkdir(mode=0o750)
        self.writer = writer
        self.previous = "0" * 64
        self.count = 0

    def write(self, request: str) -> None:
        """Append one record, in two steps: a reader may meet half a line."""
        self.count += 1
        now = datetime.now(UTC)
        record = {
            "v": 1,
            "type": "decision",
            "id": str(uuid.uuid4()),
            "time": now.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z",
            "writer": self.writer,
            "seq": self.count,
            "prev": self.previous,
            "request_id": request,
            "decision": "deny",
            "reason": "token_missing",
            "status": 401,
            "endpoint": "chat.completions",
            "latency_us": {"total": 900},
        }
        line = json.dumps(record, sort_keys=True, separators=(",", ":"))
        self.previous = hashlib.sha256(line.encode()).hexdigest()
        name = f"{now:%Y-%m-%d}-{1 + self.count // LINES_PER_FILE}.jsonl"
        with (self.folder / name).open("a", buffering=1) as stream:
            stream.write(line[:200])
            stream.flush()
            stream.write(line[200:] + "\n")


def main() -> None:
    """Write all records; the last one is written when the seconds are over."""
    folder, run, records, seconds = sys.argv[1:5]
    total, span = int(records), float(seconds)
    files = AuditFiles(Path(folder), f"siem-{run}")
    begun = time.monotonic()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.connect(JOURNAL)
        for number in range(total):
            ahead = begun + span * number / total - time.monotonic()
            if ahead > 0:
                time.sleep(ahead)
            name = f"{run}-{number}"
            if number % 2:
                files.write(name)
            else:
                text = f"MESSAGE={name} a record of the load test\nSYSLOG_IDENTIFIER=siem-load\n"
                journal.send(text.encode())
    print(json.dumps({"seconds": round(time.monotonic() - begun, 1)}))


if __name__ == "__main__":
    main()

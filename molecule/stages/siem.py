"""Stage siem: no record is lost while the collector is away, processes die and the disk is full.

Records are written on the gateway at an even rate. Meanwhile rsyslog is killed, the collector goes
away for the given time, rsyslog and the reader are killed in that time, the spool's disk is
full, and rsyslog is killed once more while the backlog drains. Then the collector's file is
counted: nothing may be missing, and a record that came twice must bear the same event.id.
"""

from __future__ import annotations

import json
import subprocess
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stages.shell import BUILD, StageError, lab, on_host, output, put, run

HOST = "gateway1"
COLLECTOR = "company1"
RECORDS_FILE = "/var/log/siem/site.jsonl"
_FILES = Path(__file__).with_name("siem_files")
_FOLDER = "/run/siem-test"
_AUDIT = "/var/log/tresor/audit"
_STATE = "/var/lib/tresor/siem"
_RSYSLOG, _READER = "tresor-siem.service", "tresor-siem-reader.service"
_DRAIN_SECONDS = 300
_BYTES_PER_RECORD = 850
_SMALL_DISK = f"""
systemctl stop {_READER}
cp -a {_STATE}/spool {_FOLDER}/spool
mount -t tmpfs -o size=ROOM,mode=700,uid=tresor-siem,gid=tresor-siem tmpfs {_STATE}/spool
cp -a {_FOLDER}/spool/. {_STATE}/spool/
mkdir -p /run/systemd/system/{_READER}.d
printf '[Service]\\nExecStart=\\nExecStart=%s\\n' \\
    '/usr/bin/python3 -I /usr/local/lib/tresor-siem {_FOLDER}/reader.json' \\
    > /run/systemd/system/{_READER}.d/siem-test.conf
sed 's/"min_free_bytes": [0-9]*/"min_free_bytes": 0/' /etc/tresor/siem/reader.json \\
    > {_FOLDER}/reader.json
chmod 644 {_FOLDER}/reader.json
systemctl daemon-reload
systemctl start {_READER}
"""
_OWN_DISK = f"""
systemctl stop {_READER}
rm -f /run/systemd/system/{_READER}.d/siem-test.conf
if mountpoint -q {_STATE}/spool; then
    rm -rf {_FOLDER}/spool
    cp -a {_STATE}/spool {_FOLDER}/spool
    umount {_STATE}/spool
    rm -f {_STATE}/spool/*
    cp -a {_FOLDER}/spool/. {_STATE}/spool/
fi
systemctl daemon-reload
systemctl start {_READER}
# A load that still writes ends when its directory is gone. The reader passes hidden ones over.
if test -d {_AUDIT}/siem-RUN; then
    mv {_AUDIT}/siem-RUN {_AUDIT}/.siem-RUN
    sleep 1
    rm -rf {_AUDIT}/.siem-RUN
fi
"""
# The reader ends a rsyslog that connects to nobody, so there may be none for some seconds.
_KILL = """
for attempt in $(seq 60); do
    if systemctl kill --kill-whom=main --signal=KILL UNIT 2>/run/siem-test/kill; then exit 0; fi
    sleep 0.5
done
cat /run/siem-test/kill >&2
exit 1
"""


@dataclass
class Seen:
    """What the forwarder said of itself while the faults lasted."""

    most_unproven: int = 0
    disconnected: bool = False
    blocked: set[str] = field(default_factory=set)

    def take(self, report: dict[str, Any]) -> None:
        """Take one report in."""
        self.most_unproven = max(self.most_unproven, int(report["unproven_records"]))
        self.disconnected |= not report["connected"]
        if report["blocked"]:
            self.blocked.add(str(report["blocked"]).split(":")[0].partition(" holds")[0])


def schedule(seconds: float) -> list[tuple[float, str]]:
    """Return the faults with the second at which each happens, counted from the load's begin."""
    before = _margin(seconds)
    return [
        (before / 2, "kill rsyslog"),
        (before, "collector away"),
        (before + seconds * 0.2, "kill rsyslog"),
        (before + seconds * 0.4, "kill reader"),
        (before + seconds * 0.7, "kill rsyslog"),
        (before + seconds, "collector back"),
        (before + seconds + 3, "kill rsyslog"),
        (before + seconds + 6, "kill reader"),
    ]


def _margin(seconds: float) -> float:
    return max(8.0, seconds / 20)


def main(seconds: float, records: int) -> dict[str, Any]:
    """Run the test on the converged lab; return its figures.

    Raises:
        StageError: a record was lost, a double bears another id, or the trouble was not visible.
    """
    name = f"s{uuid.uuid4().hex[:10]}"
    for file in _FILES.iterdir():
        if file.suffix == ".py":
            put(COLLECTOR if file.name == "received.py" else HOST, f"{_FOLDER}/{file.name}",
                file.read_bytes())  # fmt: skip
    span = seconds + 2 * _margin(seconds)
    # A third of what gathers while the collector is away has room.
    room = max(4 << 20, int(records * seconds / span * _BYTES_PER_RECORD / 3))
    _on(HOST, _SMALL_DISK.replace("ROOM", str(room)), "make the disk small")
    seen = Seen()
    usage = _in_background(HOST, "python3", f"{_FOLDER}/usage.py", "tresor-siem",
                           f"{_FOLDER}/usage")  # fmt: skip
    load = _in_background(HOST, "runuser", "-u", "tresor-gateway", "--", "python3",
                          f"{_FOLDER}/load.py", _AUDIT, name, str(records), str(span))  # fmt: skip
    begun = time.monotonic()
    try:
        for moment, fault in schedule(seconds):
            while (left := begun + moment - time.monotonic()) > 0:
                time.sleep(min(2.0, left))
                seen.take(_report())
            print(f"siem: {time.monotonic() - begun:6.1f} s: {fault}", flush=True)
            _do(fault)
        if load.wait(timeout=span + 120):
            raise StageError(f"siem: the load ended with {load.returncode}")
        result = _drained(name, records)
        result["seconds"] = round(time.monotonic() - begun, 1)
        use = json.loads(output(on_host(HOST, "cat", f"{_FOLDER}/usage"), what="read the usage"))
        result |= use | {
            "records": records,
            "outage_seconds": seconds,
            "most_unproven": seen.most_unproven,
            "disconnected_seen": seen.disconnected,
            "blocked_seen": sorted(seen.blocked),
            "small_disk_bytes": room,
        }
    finally:
        run(lab("siem", "start"), what="start the collector")
        _on(HOST, f"rm -f {_FOLDER}/usage", "end the sampling")
        for process in (usage, load):
            process.terminate()
            process.wait()
        _on(HOST, _OWN_DISK.replace("RUN", name), "give the disk back")
    print(json.dumps(result, indent=2, sort_keys=True), flush=True)
    judge(result)
    return result


def judge(result: dict[str, Any]) -> None:
    """Raise StageError for figures that are not good enough, naming them."""
    wrong = []
    if result["lost"]:
        wrong.append(f"{result['lost']} of {result['records']} records were lost")
    if result["ids_that_differ"] or result["doubles_that_differ"] or result["broken"]:
        wrong.append(
            f"{result['ids_that_differ']} doubles bear another event.id, "
            f"{result['doubles_that_differ']} bear the same with another content, "
            f"{result['broken']} records are broken"
        )
    if not result["disconnected_seen"]:
        wrong.append("the forwarder never said that it was not connected")
    if result["most_unproven"] < result["records"] / 20:
        wrong.append(f"at most {result['most_unproven']} records waited: the faults did not bite")
    if not result["blocked_seen"]:
        wrong.append("the disk was never full: the fault did not bite")
    if wrong:
        raise StageError("siem: " + "; ".join(wrong))


def _do(fault: str) -> None:
    if fault == "collector away":
        run(lab("siem", "stop"), what="stop the collector")
    elif fault == "collector back":
        run(lab("siem", "start"), what="start the collector")
    else:
        unit = _RSYSLOG if fault == "kill rsyslog" else _READER
        _on(HOST, _KILL.replace("UNIT", unit), fault)


def _drained(name: str, records: int) -> dict[str, Any]:
    """Wait until the collector has everything, or nothing new for a while; return the count."""
    deadline = time.monotonic() + _DRAIN_SECONDS
    before = -1
    while True:
        command = ("python3", f"{_FOLDER}/received.py", RECORDS_FILE, name, str(records))
        text = output(on_host(COLLECTOR, *command), what="count the records")
        result: dict[str, Any] = json.loads(text)
        if not result["lost"] or time.monotonic() > deadline:
            return result
        if result["received"] != before:
            deadline = max(deadline, time.monotonic() + 60)
        before = result["received"]
        time.sleep(3)


def _report() -> dict[str, Any]:
    text = output(on_host(HOST, "cat", f"{_STATE}/checkpoint.json"), what="read the report")
    report: dict[str, Any] = json.loads(text)
    return report


def _on(host: str, script: str, what: str) -> None:
    run(on_host(host, "sh", "-euc", script), what=what)


def _in_background(host: str, *command: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(on_host(host, *command), stdin=subprocess.DEVNULL)


def keep(result: dict[str, Any]) -> None:
    """Leave the figures in the build folder."""
    BUILD.mkdir(exist_ok=True)
    (BUILD / "siem.json").write_text(json.dumps(result, indent=2, sort_keys=True) + "\n", "utf-8")

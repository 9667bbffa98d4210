"""No line is left out and none is taken twice while files grow, move, shrink and return."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from tresor_siem.tail import MAX_LINE_BYTES, FileSource, Tail


def tail(folder: Path, *, keep_rest: bool = True) -> Tail:
    return Tail(FileSource("nginx", (f"{folder}/log", f"{folder}/log-*"), keep_rest), "gateway1")


def look(reader: Tail, positions: dict[str, Any], now: float | None = None) -> list[bytes]:
    found = []
    for batch in reader.batches(positions, time.time() if now is None else now):
        found += [line.data for line in batch.lines]
        for key, value in batch.changed.items():
            if value is None:
                del positions[key]
            else:
                positions[key] = value
    return found


def test_only_whole_lines_are_taken(tmp_path: Path) -> None:
    positions: dict[str, Any] = {}
    log = tmp_path / "log"
    log.write_bytes(b"one\ntw")
    assert look(tail(tmp_path), positions) == [b"one"]
    with log.open("ab") as stream:
        stream.write(b"o\n")
    assert look(tail(tmp_path), positions) == [b"two"]
    assert look(tail(tmp_path), positions) == []


def test_rotation_loses_nothing_even_while_nobody_reads(tmp_path: Path) -> None:
    positions: dict[str, Any] = {}
    log = tmp_path / "log"
    log.write_bytes(b"one\n")
    assert look(tail(tmp_path), positions) == [b"one"]
    with log.open("ab") as old:
        old.write(b"two\n")
        log.rename(tmp_path / "log-1")
        log.write_bytes(b"four\n")
        old.write(b"three\n")
    found = look(tail(tmp_path), positions)
    assert sorted(found) == [b"four", b"three", b"two"]


def test_reused_inode_is_a_new_file(tmp_path: Path) -> None:
    positions: dict[str, Any] = {}
    log = tmp_path / "log"
    log.write_bytes(b"old first line\nold second line\n")
    look(tail(tmp_path), positions)
    # The same inode with other contents, at least as long: only the first bytes tell.
    log.write_bytes(b"new first line\nnew second line\nnew third line\n")
    found = look(tail(tmp_path), positions)
    assert found == [b"new first line", b"new second line", b"new third line"]


def test_file_cut_to_nothing_is_read_from_its_start(tmp_path: Path) -> None:
    positions: dict[str, Any] = {}
    log = tmp_path / "log"
    log.write_bytes(b"one\ntwo\n")
    look(tail(tmp_path), positions)
    log.write_bytes(b"x\n")
    assert look(tail(tmp_path), positions) == [b"x"]


def test_torn_audit_line_is_left_to_its_writer(tmp_path: Path) -> None:
    positions: dict[str, Any] = {}
    log = tmp_path / "log"
    log.write_bytes(b"one\n{torn")
    later = time.time() + 10_000
    assert look(tail(tmp_path, keep_rest=False), positions, later) == [b"one"]
    os.truncate(log, 4)
    with log.open("ab") as stream:
        stream.write(b"repair\n")
    assert look(tail(tmp_path, keep_rest=False), positions, later) == [b"repair"]


def test_rest_without_line_end_is_not_lost(tmp_path: Path) -> None:
    positions: dict[str, Any] = {}
    (tmp_path / "log").write_bytes(b"one\nrest")
    assert look(tail(tmp_path), positions, time.time()) == [b"one"]
    assert look(tail(tmp_path), positions, time.time() + 10_000) == [b"rest"]


def test_line_longer_than_any_bound_is_taken_in_pieces(tmp_path: Path) -> None:
    positions: dict[str, Any] = {}
    size = MAX_LINE_BYTES + 1000
    (tmp_path / "log").write_bytes(b"x" * size + b"\nnext\n")
    found = look(tail(tmp_path), positions)
    assert sum(map(len, found[:-1])) == size
    assert found[-1] == b"next"


def test_removed_file_is_forgotten_and_a_new_one_found(tmp_path: Path) -> None:
    positions: dict[str, Any] = {}
    (tmp_path / "log-1").write_bytes(b"one\n")
    look(tail(tmp_path), positions)
    (tmp_path / "log-1").unlink()
    look(tail(tmp_path), positions)
    assert positions == {}
    (tmp_path / "log").write_bytes(b"two\n")
    assert look(tail(tmp_path), positions) == [b"two"]


def test_file_that_grows_while_it_is_read_is_not_read_again(tmp_path: Path) -> None:
    """Growth behind the size seen at first is no cut: all lines come once, and reading ends."""
    positions: dict[str, Any] = {}
    log = tmp_path / "log"
    lines = [b"line %06d %s" % (number, b"x" * 300) for number in range(3000)]
    log.write_bytes(b"".join(line + b"\n" for line in lines[:1000]))
    found: list[bytes] = []
    reading = tail(tmp_path).batches(positions, time.time())
    for count, batch in enumerate(reading):
        assert count < 50, "the file is read again and again"
        found += [line.data for line in batch.lines]
        positions |= batch.changed
        if count == 0:
            with log.open("ab") as stream:
                stream.write(b"".join(line + b"\n" for line in lines[1000:]))
    assert found == lines

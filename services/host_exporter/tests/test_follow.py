"""A log is read line by line, each exactly once, whatever its writer does to it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tresor_exporter.follow import MAX_LINE_BYTES, Follower


def _write(path: Path, text: str | bytes) -> None:
    with path.open("ab") as stream:
        stream.write(text if isinstance(text, bytes) else text.encode())


def _lines(follower: Follower) -> list[str]:
    return [line.decode() for batch in follower.batches() for line in batch.lines]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "tresor.json"
    path.touch()
    return path


def test_only_lines_after_the_first_start_are_read(log: Path) -> None:
    _write(log, "old\nhalf")
    follower = Follower(log, None)
    assert _lines(follower) == []
    _write(log, " of an old line\nnew\n")
    assert _lines(follower) == ["new"]
    assert _lines(follower) == []


def test_a_log_that_appears_later_is_read_from_its_first_line(log: Path) -> None:
    log.unlink()
    follower = Follower(log, None)
    with pytest.raises(FileNotFoundError):
        _lines(follower)
    _write(log, "first\n")
    assert _lines(Follower(log, follower.positions())) == ["first"]


def test_a_line_without_its_end_waits(log: Path) -> None:
    follower = Follower(log, {})
    _write(log, "one\ntw")
    assert _lines(follower) == ["one"]
    _write(log, "o\n")
    assert _lines(follower) == ["two"]


def test_lines_written_to_the_old_file_after_rotation_are_not_lost(log: Path) -> None:
    follower = Follower(log, {})
    with log.open("ab", buffering=0) as writer:
        writer.write(b"1\n")
        assert _lines(follower) == ["1"]
        log.rename(log.with_name("tresor.json-20261124T230000Z"))
        writer.write(b"2\n")
        assert _lines(follower) == ["2"]
        _write(log, "4\n")
        writer.write(b"3\n")
        assert _lines(follower) == ["3", "4"]
    assert _lines(follower) == []


def test_rotations_between_two_passes_are_all_read(log: Path) -> None:
    follower = Follower(log, {})
    for number in range(3):
        _write(log, f"{number}\n")
        log.rename(log.with_name(f"tresor.json-20261124T23000{number}Z"))
    _write(log, "3\n")
    assert _lines(follower) == ["0", "1", "2", "3"]


def test_a_restart_goes_on_where_the_last_process_saved(log: Path) -> None:
    first = Follower(log, {})
    _write(log, "1\n")
    assert _lines(first) == ["1"]
    saved = first.positions()
    _write(log, "2\n")
    log.rename(log.with_name("tresor.json-20261124T230000Z"))
    _write(log, "3\n")
    assert _lines(Follower(log, saved)) == ["2", "3"]


def test_a_truncated_file_is_read_from_its_start(log: Path) -> None:
    follower = Follower(log, {})
    _write(log, "1\n2\n")
    assert _lines(follower) == ["1", "2"]
    log.write_bytes(b"3\n")
    assert _lines(follower) == ["3"]


def test_a_file_truncated_and_written_further_than_before_is_read_from_its_start(log: Path) -> None:
    follower = Follower(log, {})
    _write(log, "1\n")
    assert _lines(follower) == ["1"]
    log.write_bytes(b"2\n3\n4\n")
    assert _lines(follower) == ["2", "3", "4"]


def test_a_removed_old_file_is_forgotten_but_not_at_once(log: Path) -> None:
    follower = Follower(log, {})
    old = log.with_name("tresor.json-20261124T230000Z")
    _write(old, "1\n")
    assert _lines(follower) == ["1"]
    hidden = log.with_name("elsewhere")
    old.rename(hidden)
    assert _lines(follower) == []
    hidden.rename(old)
    assert _lines(follower) == []  # not counted twice
    old.unlink()
    for _ in range(3):
        _lines(follower)
    assert len(follower.positions()) == 1


def test_a_huge_line_is_left_out_and_counted_once(log: Path) -> None:
    follower = Follower(log, {})
    _write(log, b"a\n" + b"x" * (3 << 20))
    first = list(follower.batches())
    assert [line for batch in first for line in batch.lines] == [b"a"]
    assert sum(batch.dropped for batch in first) == 1
    again = Follower(log, follower.positions())
    _write(log, b"x" * 100_000 + b"\nb\n")
    second = list(again.batches())
    assert [line for batch in second for line in batch.lines] == [b"b"]
    assert sum(batch.dropped for batch in second) == 0


def test_a_long_line_within_a_batch_is_counted_as_dropped(log: Path) -> None:
    follower = Follower(log, {})
    _write(log, b"x" * (MAX_LINE_BYTES + 1) + b"\n" + b"y" * MAX_LINE_BYTES + b"\n")
    batches = list(follower.batches())
    assert [len(line) for batch in batches for line in batch.lines] == [MAX_LINE_BYTES]
    assert sum(batch.dropped for batch in batches) == 1


def test_a_backlog_is_read_in_bounded_passes(log: Path) -> None:
    follower = Follower(log, {}, max_pass_bytes=2 << 20)
    line = "z" * 1023
    _write(log, f"{line}\n" * 4096)
    sizes = []
    while found := _lines(follower):
        sizes.append(len(found))
    assert sum(sizes) == 4096
    assert len(sizes) == 2


def test_other_files_of_the_folder_are_left_alone(log: Path) -> None:
    follower = Follower(log, {})
    for name in (
        "tresor.json-20261124T230000Z.gz",
        "access.log",
        "tresor.jsonl",
        "tresor.json.new",
    ):
        _write(log.with_name(name), "no\n")
    _write(log.with_name("tresor.json.1"), "yes\n")
    assert _lines(follower) == ["yes"]


def test_an_unreadable_file_is_an_error_and_loses_no_place(log: Path) -> None:
    follower = Follower(log, {})
    _write(log, "1\n")
    assert _lines(follower) == ["1"]
    target = log.with_name("tresor.json-20261124T230000Z")
    log.rename(target)
    log.mkdir()  # even root cannot read a folder as a file
    for _ in range(5):
        with pytest.raises(IsADirectoryError):
            _lines(follower)
    log.rmdir()
    _write(log, "2\n")
    assert _lines(follower) == ["2"]


@settings(max_examples=60, deadline=None)
@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("write"), st.integers(1, 5)),
            st.tuples(st.just("part"), st.integers(1, 9)),
            st.tuples(st.just("rotate"), st.just(0)),
            st.tuples(st.just("read"), st.just(0)),
            st.tuples(st.just("restart"), st.just(0)),
        ),
        max_size=40,
    )
)
def test_every_line_is_seen_exactly_once(
    steps: list[tuple[str, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    log = tmp_path_factory.mktemp("family") / "tresor.json"
    log.touch()
    follower = Follower(log, {})
    seen: list[str] = []
    written, rotations, pending = 0, 0, b""
    for step, amount in steps:
        if step == "write":
            for _ in range(amount):
                _write(log, pending or b"line %d\n" % written)
                pending = b""
                written += 1
        elif step == "part" and not pending:
            whole = b"line %d\n" % written
            cut = min(amount, len(whole) - 1)
            _write(log, whole[:cut])
            pending = whole[cut:]
        elif step == "rotate" and not pending:
            log.rename(log.with_name(f"tresor.json-20261124T{rotations:06}Z"))
            log.touch()
            rotations += 1
        elif step == "read":
            seen += _lines(follower)
        elif step == "restart":
            follower = Follower(log, follower.positions())
    seen += _lines(follower)
    assert sorted(seen, key=lambda line: int(line[5:])) == [f"line {n}" for n in range(written)]

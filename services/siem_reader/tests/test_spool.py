"""Messages and positions agree after any end; nothing unproven is ever removed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tresor_siem.spool import Place, Spool


def messages(spool: Spool, place: Place | None = None) -> list[bytes]:
    return [data for data, _ in spool.read(place or spool.proven)]


def test_messages_and_positions_survive_the_process(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.append([b"one", b"two\nlines"], {"a": 1})
    spool.append([b"three"], {"b": 2, "a": None})
    again = Spool(tmp_path)
    assert messages(again) == [b"one", b"two\nlines", b"three"]
    assert again.positions == {"b": 2}


@pytest.mark.parametrize("cut", range(1, 31))
def test_torn_end_takes_messages_and_position_back_together(tmp_path: Path, cut: int) -> None:
    spool = Spool(tmp_path)
    spool.append([b"kept"], {"a": 1})
    spool.append([b"lost-message"], {"a": 2})
    spool.close()
    (path,) = tmp_path.glob("*.spool")
    data = path.read_bytes()
    path.write_bytes(data[:-cut])
    again = Spool(tmp_path)
    assert messages(again) == [b"kept"]
    assert again.positions == {"a": 1}
    again.append([b"lost-message"], {"a": 2})
    assert messages(Spool(tmp_path)) == [b"kept", b"lost-message"]


def test_zeros_that_a_power_cut_leaves_are_cut_off(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.append([b"kept"], {"a": 1})
    spool.close()
    (path,) = tmp_path.glob("*.spool")
    with path.open("ab") as stream:
        stream.write(bytes(4096))
    assert messages(Spool(tmp_path)) == [b"kept"]


def test_segment_that_was_just_begun_is_no_obstacle(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.append([b"kept"], {"a": 1})
    spool.close()
    (tmp_path / "000000000002.spool").write_bytes(b"S 40\n{")
    again = Spool(tmp_path)
    assert messages(again) == [b"kept"]
    assert again.positions == {"a": 1}


def test_proof_removes_whole_segments_before_it_and_no_others(tmp_path: Path) -> None:
    spool = Spool(tmp_path, segment_bytes=64)
    for number in range(6):
        spool.append([b"message %d" % number], {"n": number})
    places = [place for _, place in spool.read(spool.proven)]
    spool.prove(places[2])
    assert messages(spool) == [b"message 3", b"message 4", b"message 5"]
    again = Spool(tmp_path, segment_bytes=64)
    assert messages(again) == [b"message 3", b"message 4", b"message 5"]
    assert again.positions == {"n": 5}


def test_proof_never_goes_back(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.append([b"one", b"two"], {})
    first, second = (place for _, place in spool.read(spool.proven))
    spool.prove(second)
    spool.prove(first)
    assert spool.proven == second


def test_damaged_note_of_proof_means_everything_goes_again(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.append([b"one"], {})
    spool.prove(spool.end)
    (tmp_path / "proven").write_text("00000000000000000001 00000000000000000999 00000000\n")
    assert messages(Spool(tmp_path)) == [b"one"]


def test_full_disk_leaves_the_spool_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import resource
    import signal

    spool = Spool(tmp_path)
    spool.append([b"kept"], {"a": 1})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
    try:
        with pytest.raises(OSError, match="too large"):
            spool.append([b"x" * 5000], {"a": 2})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert spool.positions == {"a": 1}
    spool.append([b"later"], {"a": 3})
    assert messages(spool) == [b"kept", b"later"]
    assert messages(Spool(tmp_path)) == [b"kept", b"later"]

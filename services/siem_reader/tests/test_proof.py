"""What counts as acknowledged, and what does not."""

from __future__ import annotations

from tresor_siem.observe import parse, sessions
from tresor_siem.proof import Proof, Sample, Verdict

WINDOW = 10


def ready(session: str | None = "s1") -> Proof:
    proof = Proof(WINDOW)
    proof.take(Sample(5, 0, None), 0)
    assert not proof.ready
    proof.take(Sample(5, 0, session), 0)
    assert proof.ready
    return proof


def test_all_but_the_window_is_proven() -> None:
    proof = ready()
    proof.take(Sample(105, 0, "s1"), 100)
    assert proof.take(Sample(105, 0, "s1"), 100) == Verdict(proven=90)


def test_what_waits_in_the_queue_is_not_proven() -> None:
    proof = ready()
    proof.take(Sample(105, 60, "s1"), 100)
    assert proof.take(Sample(105, 60, "s1"), 100) == Verdict(proven=30)


def test_counters_that_were_read_at_different_moments_prove_too_little_never_too_much() -> None:
    proof = ready()
    # Ten messages came between the reading of size and of enqueued.
    assert proof.take(Sample(25, 0, "s1"), 20) == Verdict(proven=0)


def test_first_connection_and_every_other_one_begin_again() -> None:
    proof = Proof(WINDOW)
    proof.take(Sample(0, 0, None), 0)
    assert proof.take(Sample(0, 0, "s1"), 0) == Verdict(restart=True)
    proof.take(Sample(50, 0, "s1"), 50)
    assert proof.take(Sample(50, 0, "s2"), 50) == Verdict(restart=True)
    # The fifty of before prove nothing any more.
    assert proof.take(Sample(60, 0, "s2"), 60) == Verdict(proven=0)
    proof.take(Sample(80, 0, "s2"), 80)
    assert proof.take(Sample(80, 0, "s2"), 80) == Verdict(proven=70)


def test_nothing_is_proven_without_a_connection() -> None:
    proof = ready()
    proof.take(Sample(105, 0, "s1"), 100)
    assert proof.take(Sample(105, 0, None), 100) == Verdict()
    assert proof.session is None


def test_connection_that_comes_back_after_a_gap_begins_again() -> None:
    proof = ready()
    proof.take(Sample(105, 0, None), 100)
    assert proof.take(Sample(105, 0, "s1"), 100).restart


def test_messages_of_an_earlier_link_are_not_counted() -> None:
    proof = Proof(WINDOW)
    proof.take(Sample(100, 40, "s1"), 0)
    proof.take(Sample(140, 80, "s1"), 0)
    assert not proof.ready
    proof.take(Sample(140, 60, "s1"), 0)
    assert proof.ready
    proof.take(Sample(170, 40, "s1"), 30)
    assert proof.take(Sample(170, 40, "s1"), 30) == Verdict(proven=0)
    assert proof.take(Sample(170, 0, "s1"), 30) == Verdict(proven=20)


def test_connection_is_found_by_user_state_and_peer() -> None:
    head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid ...\n"
    row = "   0: {local} {peer} {state} 00000000:00000000 00:00000000 00000000 {uid} 0 4711 1\n"
    mine = row.format(local="146433C6:D8D4", peer="826433C6:09D2", state="01", uid=990)
    waiting = row.format(local="146433C6:D8D5", peer="826433C6:09D2", state="08", uid=990)
    other_user = row.format(local="146433C6:D8D6", peer="826433C6:09D2", state="01", uid=0)
    other_port = row.format(local="146433C6:D8D7", peer="826433C6:01BB", state="01", uid=990)
    peers = {("198.51.100.130", 2514)}
    table = head + waiting + other_user + other_port
    assert sessions(table, peers, 990) == []
    assert sessions(table + mine, peers, 990) == ["146433C6:D8D4/4711"]


def test_counters_are_read_from_lines_with_a_date_in_front() -> None:
    lines = [
        b'Wed Nov 25 00:03:06 2026: { "name": "siem", "origin": "core.queue", "size": 3 }',
        b"Wed Nov 25 00:03:06 2026: { cut o",
        b"",
    ]
    assert [entry["size"] for entry in parse(lines)] == [3]

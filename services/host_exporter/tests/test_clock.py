"""The clock's error and whether it can be believed."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.host_exporter.tests.support import failing_scrape, scrape
from tresor_exporter.collectors.clock import ClockCollector, parse_tracking
from tresor_exporter.errors import CollectorError
from tresor_exporter.schema import Clock

GOOD = (
    "C6336482,ntp.company.example,10,1000.5,0.000012000,0.000003,0.000004,-1.5,0.0,0.02,"
    "0.0001,0.0002,64.0,Normal\n"
)
UNSYNCHRONISED = "00000000,,0,0.0,0.000000000,0,0,0,0,0,1,1,0.0,Not synchronised\n"


class Chrony:
    """Answers each connection with a text and counts them."""

    def __init__(self, path: Path) -> None:
        self.path, self.text, self.asked = path, GOOD, 0
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(path))
        self._socket.listen()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while True:
            connection, _ = self._socket.accept()
            with connection:
                if not self.text:
                    return
                self.asked += 1
                connection.sendall(self.text.encode())

    def close(self) -> None:
        self.text = ""
        with socket.socket(socket.AF_UNIX) as last:
            last.connect(str(self.path))
        self._thread.join()
        self._socket.close()


@pytest.fixture
def chrony(tmp_path: Path) -> Iterator[Chrony]:
    server = Chrony(tmp_path / "clock.sock")
    yield server
    server.close()


def collector(chrony: Chrony, *, now: float = 1010) -> tuple[ClockCollector, list[float]]:
    at = [100.0]
    config = Clock(chrony.path, 3600)
    return ClockCollector(config, monotonic=lambda: at[0], now=lambda: now), at


def test_a_slow_clock_has_a_negative_offset(chrony: Chrony) -> None:
    found = scrape(collector(chrony)[0])
    assert found == {"tresor_clock_offset_seconds": -0.000012, "tresor_clock_synchronised": 1}


def test_an_unsynchronised_clock_shows(chrony: Chrony) -> None:
    chrony.text = UNSYNCHRONISED
    assert scrape(collector(chrony)[0])["tresor_clock_synchronised"] == 0


def test_a_clock_without_news_from_its_servers_is_not_believed(chrony: Chrony) -> None:
    found = scrape(collector(chrony, now=1000.5 + 3601)[0])
    assert found["tresor_clock_synchronised"] == 0


def test_chrony_is_not_asked_at_every_scrape(chrony: Chrony) -> None:
    subject, at = collector(chrony)
    for seconds in (0, 10, 20, 26):
        at[0] = 100.0 + seconds
        scrape(subject)
    assert chrony.asked == 2


def test_an_answer_that_makes_no_sense_fails_with_its_words(chrony: Chrony) -> None:
    chrony.text = "506 Cannot talk to daemon\n"
    found, problem = failing_scrape(collector(chrony)[0])
    assert found == {}
    assert "506 Cannot talk to daemon" in problem


def test_a_missing_socket_fails(tmp_path: Path) -> None:
    _, problem = failing_scrape(ClockCollector(Clock(tmp_path / "none", 3600)))
    assert str(tmp_path / "none") in problem


@pytest.mark.parametrize("text", ["", ",,,", GOOD.replace("1000.5", "x"), GOOD * 2])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(CollectorError):
        parse_tracking(text)

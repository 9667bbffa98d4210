"""Which engine is ended, which is not, how often, and what is left behind."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from services.engine_watchdog.tests.fake import Engine, certificates
from tresor.gpu.commands import Outcome
from tresor_engine_watchdog import evidence, metrics, program, state
from tresor_engine_watchdog.config import ConfigError, read
from tresor_engine_watchdog.question import Answer, ask, moves
from tresor_engine_watchdog.unit import Shown, Unit
from tresor_engine_watchdog.watch import Watch

NOW = 1_800_000_000.0
TURN = 20.0
UNIT = "tresor-vllm@chat-gpu1.service"
Files = dict[str, str]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return certificates(tmp_path_factory.mktemp("pki"))


@pytest.fixture
def engine(files: Files) -> Iterator[Engine]:
    made = Engine(files)
    yield made
    made.end()


def configuration(folder: Path, files: Files, port: int = 8100, **changes: Any) -> dict[str, Any]:
    return {
        "host": "gpu1",
        "interval_seconds": 10,
        "timeout_seconds": 1,
        "failures": 3,
        "hourly_cap": 2,
        "state_file": str(folder / "state.json"),
        "metrics_file": str(folder / "watchdog.prom"),
        "evidence_directory": str(folder),
        **files,
        "instances": [
            {
                "id": "chat-gpu1",
                "unit": UNIT,
                "task": "chat",
                "model": "chat-large",
                "name": "localhost",
                "address": "127.0.0.1",
                "port": port,
            }
        ],
        **changes,
    }


class Systemd:
    """One unit as systemctl shows it; a killed one starts again, a stopped one does not."""

    def __init__(self) -> None:
        self.active = "active"
        self.starts = 1
        self.ran: list[str] = []
        self.survives: set[str] = set()

    def run(self, command: Sequence[str]) -> Outcome:
        line = " ".join(command[1:])
        if line.startswith("show"):
            return Outcome(
                0, f"ActiveState={self.active}\nInvocationID=i{self.starts}\nMainPID=1\n"
            )
        self.ran.append(line.removesuffix(f" {UNIT}"))
        if line.startswith("kill") and line.split("=")[1].split()[0] not in self.survives:
            self.starts += 1
        elif line.startswith("stop"):
            self.active = "inactive"
        return Outcome(0, "")


def _hurried(real: Callable[..., Any], engine: Engine, waits: str) -> Callable[..., Any]:
    def hurried(instance: Any, context: Any, _timeout: float) -> Any:
        return real(instance, context, 0.02 if getattr(engine, waits) else 20.0)

    return hurried


class Site:
    """A watchdog over a real connection, with time and systemd in the test's hands."""

    def __init__(
        self,
        folder: Path,
        files: Files,
        engine: Engine,
        monkeypatch: pytest.MonkeyPatch,
        **changes: Any,
    ) -> None:
        given = configuration(folder, files, engine.port, **changes)
        self.config = read(given)
        self.systemd = Systemd()
        self.now = NOW
        # A test waits only for what it knows never to come.
        for name, waits in (("ask", "hangs"), ("metrics_text", "metrics_hang")):
            monkeypatch.setattr(program, name, _hurried(getattr(program, name), engine, waits))
        monkeypatch.setattr(program, "runner", lambda _seconds: self.systemd.run)
        monkeypatch.setattr("tresor_engine_watchdog.unit.GRACE_SECONDS", 0.0)
        self.fresh()

    def fresh(self) -> None:
        """Start the watchdog again with what it kept on disk."""
        self.service = program.Service(self.config, state.load(self.config.state_file))

    @property
    def watch(self) -> Watch:
        return self.service.watches["chat-gpu1"]

    def turns(self, count: int) -> None:
        for _ in range(count):
            self.now += TURN
            self.watch.turn(self.now)


@pytest.fixture
def site(
    tmp_path: Path, files: Files, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> Site:  # fmt: skip
    return Site(tmp_path, files, engine, monkeypatch)


def events(capsys: pytest.CaptureFixture[str]) -> list[str]:
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert all(one["instance"] == "chat-gpu1" and one["host"] == "gpu1" for one in lines)
    return [one["event"].removeprefix("engine.") for one in lines]


def test_engine_that_answers_is_left_alone(site: Site, engine: Engine) -> None:
    site.turns(5)
    assert site.systemd.ran == []
    assert len(engine.asked) == 5
    assert '"max_tokens": 1' in engine.asked[0]
    assert '"model": "chat-large"' in engine.asked[0]


def test_hanging_engine_that_calls_itself_healthy_is_ended(
    site: Site, engine: Engine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site.turns(1)
    engine.hangs = True
    site.turns(2)
    assert site.systemd.ran == []
    site.turns(1)
    assert site.systemd.ran == ["kill --signal=SIGABRT"]
    assert events(capsys) == ["serves", "silent", "hangs", "killed"]
    [kept] = tmp_path.glob("chat-gpu1-*.txt")
    text = kept.read_text()
    assert "3 questions in 40 s: no answer to /v1/completions within" in text
    assert "vllm:generation_tokens_total" in text
    assert kept.stat().st_mode & 0o777 == 0o600


def test_engine_that_comes_back_is_said_to_serve(
    site: Site, engine: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    site.turns(1)
    engine.hangs = True
    site.turns(3)
    engine.hangs = False
    events(capsys)
    site.turns(2)
    assert events(capsys) == ["serves"]
    assert len(site.systemd.ran) == 1


def test_process_that_survives_sigabrt_gets_sigkill(site: Site, engine: Engine) -> None:
    site.systemd.survives = {"SIGABRT"}
    site.turns(1)
    engine.hangs = True
    site.turns(3)
    assert site.systemd.ran == ["kill --signal=SIGABRT", "kill --signal=SIGKILL"]


def test_engine_whose_metrics_hang_too_is_ended(site: Site, engine: Engine) -> None:
    site.turns(1)
    engine.hangs = engine.metrics_hang = True
    site.turns(3)
    assert site.systemd.ran == ["kill --signal=SIGABRT"]


def test_busy_engine_is_left_alone(
    site: Site, engine: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    site.turns(1)
    engine.hangs, engine.moves = True, 7
    site.turns(8)
    assert site.systemd.ran == []
    assert events(capsys) == ["serves", "silent", "busy"]


def test_full_queue_that_is_worked_off_is_busy_and_one_that_is_not_hangs(
    site: Site, engine: Engine
) -> None:
    site.turns(1)
    engine.status, engine.moves = 503, 7
    site.turns(6)
    assert site.systemd.ran == []
    engine.moves = 0
    site.turns(4)
    assert site.systemd.ran == ["kill --signal=SIGABRT"]


def test_clients_that_give_up_are_no_progress() -> None:
    before = moves('vllm:request_success_total{r="abort"} 1.0\nvllm:num_requests_running 2.0\n')
    after = moves('vllm:request_success_total{r="abort"} 9.0\nvllm:num_requests_running 2.0\n')
    assert before == after
    assert moves("python_info 1.0\n") is None


def test_engine_that_still_starts_is_never_a_hang(
    site: Site, engine: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    engine.hangs = True
    site.turns(10)
    assert site.systemd.ran == []
    assert events(capsys) == []


def test_start_after_a_hang_has_to_answer_before_it_is_judged(site: Site, engine: Engine) -> None:
    site.turns(1)
    engine.hangs = True
    engine.tokens = 0
    site.turns(20)
    assert len(site.systemd.ran) == 1


def test_hang_is_judged_after_the_watchdog_itself_was_started_again(
    site: Site, engine: Engine
) -> None:
    site.turns(1)
    engine.hangs = True
    site.turns(1)
    site.fresh()
    site.turns(3)
    assert site.systemd.ran == ["kill --signal=SIGABRT"]


def test_lost_state_does_not_hide_a_hang_of_an_engine_that_has_worked(
    site: Site, engine: Engine
) -> None:
    engine.hangs, engine.tokens = True, 40
    site.turns(3)
    assert site.systemd.ran == ["kill --signal=SIGABRT"]


def test_engine_that_died_is_systemds_business(site: Site, engine: Engine) -> None:
    site.turns(1)
    engine.end()
    site.turns(10)
    assert site.systemd.ran == []
    assert site.watch.failures == 0


@pytest.mark.parametrize("active", ["inactive", "deactivating", "activating", "failed"])
def test_unit_that_does_not_run_is_not_asked(site: Site, engine: Engine, active: str) -> None:
    site.turns(1)
    engine.hangs = True
    site.turns(2)
    site.systemd.active = active
    site.turns(5)
    assert (site.systemd.ran, len(engine.asked)) == ([], 3)


def test_refused_question_is_no_hang(site: Site, engine: Engine) -> None:
    site.turns(1)
    engine.status = 404
    site.turns(10)
    assert site.systemd.ran == []


def test_answer_in_between_begins_the_count_again(
    site: Site, engine: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(3):
        engine.hangs = False
        site.turns(1)
        engine.hangs = True
        site.turns(2)
    assert site.systemd.ran == []
    assert "answers" in events(capsys)


def test_cap_of_an_hour_survives_restarts_and_ends_in_a_stopped_engine(
    site: Site, engine: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        engine.hangs = False
        site.turns(1)
        engine.hangs = True
        site.turns(3)
        site.fresh()
    engine.hangs = False
    site.turns(1)
    engine.hangs = True
    site.turns(3)
    assert site.systemd.ran[-2:] == ["kill --signal=SIGABRT", "stop --no-block"]
    assert events(capsys)[-2:] == ["hangs", "stopped"]
    text = metrics.text(site.service.watches)
    assert 'tresor_engine_watchdog_stopped{engine="chat-gpu1"} 1' in text
    assert 'tresor_engine_watchdog_restarts_total{engine="chat-gpu1"} 2' in text
    # Somebody has looked and starts it: it is watched like before.
    site.systemd.active, engine.hangs = "active", False
    site.turns(1)
    assert events(capsys) == ["started_again", "serves"]
    assert 'stopped{engine="chat-gpu1"} 0' in metrics.text(site.service.watches)


def test_restarts_of_the_hour_before_do_not_count(site: Site, engine: Engine) -> None:
    for _ in range(4):
        engine.hangs = False
        site.turns(1)
        engine.hangs = True
        site.turns(3)
        site.now += 3600
    assert site.systemd.ran == ["kill --signal=SIGABRT"] * 4


def test_cap_is_on_disk_before_the_engine_is_ended(site: Site, engine: Engine) -> None:
    seen: list[int] = []
    run = site.systemd.run

    def look(command: Sequence[str]) -> Outcome:
        if command[1] == "kill":
            seen.append(state.load(site.config.state_file)["chat-gpu1"].restarts)
        return run(command)

    site.systemd.run = look  # type: ignore[method-assign]
    site.fresh()
    site.turns(1)
    engine.hangs = True
    site.turns(3)
    assert seen == [1]


@pytest.mark.parametrize(
    ("task", "path"),
    [("embedding", "/v1/embeddings"), ("rerank", "/v1/rerank"), ("chat", "/v1/completions")],
)
def test_every_task_has_its_own_question(
    tmp_path: Path, files: Files, engine: Engine, task: str, path: str
) -> None:
    given = configuration(tmp_path, files, engine.port)
    given["instances"][0]["task"] = task
    config = read(given)
    context = program._context(config)
    assert ask(config.instances[0], context, 1.0).answer is Answer.GIVEN
    assert engine.asked[0].startswith(f"{path} ")


def test_missing_certificate_is_no_hang(
    tmp_path: Path, files: Files, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = Site(tmp_path, files, engine, monkeypatch)
    site.turns(1)
    gone = {**files, "key_file": str(tmp_path / "none")}
    object.__setattr__(site.config, "certificates", gone)
    site.turns(5)
    assert (site.systemd.ran, site.watch.failures) == ([], 0)


def test_processes_below_the_main_one_are_told_with_their_threads(tmp_path: Path) -> None:
    def process(pid: int, name: str, state_: str, parent: int, threads: str = "S") -> None:
        stat = f"{pid} ({name}) {state_} {parent} 0 0\n"
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "stat").write_text(stat)
        for number, one in enumerate(threads):
            thread = tmp_path / str(pid) / "task" / str(pid + number)
            thread.mkdir(parents=True)
            (thread / "stat").write_text(f"{pid + number} (t) {one} 1 0\n")

    process(100, "vllm", "S", 1)
    process(200, "VLLM::EngineCore", "D", 100, "DDS")
    process(300, "a) (b", "T", 200)
    process(400, "other", "R", 1)
    assert evidence.processes(100, tmp_path) == [
        "100 vllm (parent 1): S; threads: 1 S",
        "200 VLLM::EngineCore (parent 100): D; threads: 2 D, 1 S",
        "300 a) (b (parent 200): T; threads: 1 S",
    ]
    assert evidence.processes(0, tmp_path) == []


def test_old_evidence_goes(tmp_path: Path) -> None:
    for hour in range(evidence.KEPT + 5):
        evidence.keep(
            tmp_path, "chat", Shown(), why="x", metrics=None, now=NOW + 3600 * hour
        )  # fmt: skip
    assert len(list(tmp_path.glob("*.txt"))) == evidence.KEPT


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"failures": 1}, "failures: saw 1; write 2 to 100"),
        ({"timeout_seconds": True}, "write a number"),
        ({"hourly_cap": -1}, "hourly_cap: saw -1; write 0 to 60"),
        ({"extra": 1}, "expected the keys"),
        ({"instances": [{"id": "x"}]}, "an instance: expected the keys"),
    ],
)
def test_bad_configuration_is_refused(
    tmp_path: Path, files: Files, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        read(configuration(tmp_path, files, **changes))


def test_unknown_task_is_refused(tmp_path: Path, files: Files) -> None:
    given = configuration(tmp_path, files)
    given["instances"][0]["task"] = "paint"
    with pytest.raises(ConfigError, match="task: saw 'paint'; write one of chat"):
        read(given)


def test_damaged_state_stops_the_program(
    tmp_path: Path, files: Files, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(configuration(tmp_path, files)))
    (tmp_path / "state.json").write_text('{"chat-gpu1": {"answered": ""}}')
    assert program.main([str(path)]) == 2
    assert "the watchdog cannot start: the state of chat-gpu1" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_watch_that_breaks_ends_the_service(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    """A thread that dies unseen would leave an engine without a watch."""

    def breaks(_now: float) -> None:
        raise SystemExit

    monkeypatch.setattr(site.watch, "turn", breaks)
    site.service.run()


def test_systemctl_that_says_nothing_is_no_running_unit() -> None:
    assert not Unit(UNIT, lambda _command: Outcome(None, "", "absent")).show().running

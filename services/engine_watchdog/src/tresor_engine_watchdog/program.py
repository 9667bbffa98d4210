"""The service: a thread for each engine, one state, one file of figures."""

from __future__ import annotations

import json
import ssl
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from tresor.api_check.client import RequestFailed
from tresor.api_check.options import contexts
from tresor.gpu.commands import runner
from tresor.system.whole_file import write_whole
from tresor_engine_watchdog import evidence, metrics, state
from tresor_engine_watchdog.config import Config, ConfigError, Instance, load
from tresor_engine_watchdog.question import Answer, Asked, ask, metrics_text
from tresor_engine_watchdog.unit import Shown, Unit
from tresor_engine_watchdog.watch import Eyes, Watch

EXIT_USAGE: Final = 2
_COMMAND_SECONDS: Final = 30.0


def main(arguments: Sequence[str]) -> int:
    """Watch the engines of a configuration file, for ever."""
    if len(arguments) != 1:
        print("usage: CONFIG", file=sys.stderr)
        return EXIT_USAGE
    try:
        config = load(Path(arguments[0]))
        kept = state.load(config.state_file)
    except (ConfigError, ValueError) as error:
        print(f"the watchdog cannot start: {error}", file=sys.stderr)
        return EXIT_USAGE
    Service(config, kept).run()
    return 1


class Service:
    """Every engine's watch, with one lock for what they share."""

    def __init__(self, config: Config, kept: state.State) -> None:
        """Make the watches; nothing is asked yet."""
        self._config = config
        self._lock = threading.Lock()
        self._ended = threading.Event()
        # Engines that left the host leave the state too.
        self.state = {one.id: kept.get(one.id, state.Record()) for one in config.instances}
        self.watches = {one.id: self._watch(one) for one in config.instances}

    def run(self) -> None:
        """Return when a watch has broken: systemd starts the service again."""
        for instance in self._config.instances:
            watch = self.watches[instance.id]
            threading.Thread(target=self._turns, args=(watch,), daemon=True).start()
        self._ended.wait()

    def _turns(self, watch: Watch) -> None:
        try:
            while True:
                watch.turn(time.time())
                self._tell()
                time.sleep(self._config.interval_seconds)
        finally:
            self._ended.set()

    def _tell(self) -> None:
        with self._lock:
            text = metrics.text(self.watches)
            write_whole(self._config.metrics_file, text, mode=0o644)

    def _keep(self) -> None:
        with self._lock:
            state.save(self._config.state_file, self.state)

    def _watch(self, instance: Instance) -> Watch:
        config = self._config

        def audit(event: str, **fields: Any) -> None:  # noqa: ANN401 - values of records
            """Write one record to the journal, which forwards it."""
            about = {"event": f"engine.{event}", "host": config.host, "instance": instance.id}
            line = json.dumps({**about, **fields}, sort_keys=True)
            with self._lock:
                print(line, flush=True)

        def keep_evidence(shown: Shown, why: str, text: str | None, now: float) -> str:
            return str(
                evidence.keep(
                    config.evidence_directory, instance.id, shown, why=why, metrics=text, now=now
                )
            )

        eyes = Eyes(_asker(config, instance), _teller(config, instance), keep_evidence)
        unit = Unit(instance.unit, runner(_COMMAND_SECONDS))
        record = self.state[instance.id]
        return Watch(config, record, unit=unit, eyes=eyes, audit=audit, keep=self._keep)


def _context(config: Config) -> ssl.SSLContext:
    # Read for each question: certificates are renewed while the service runs.
    return contexts(config.certificates)[1]


def _asker(config: Config, instance: Instance) -> Callable[[], Asked]:
    def question() -> Asked:
        try:
            return ask(instance, _context(config), config.timeout_seconds)
        except RequestFailed as error:
            return Asked(Answer.AWAY, str(error))

    return question


def _teller(config: Config, instance: Instance) -> Callable[[], str | None]:
    def tell() -> str | None:
        try:
            return metrics_text(instance, _context(config), config.timeout_seconds)
        except RequestFailed:
            return None

    return tell

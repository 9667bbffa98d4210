"""The service's loop, and the same health proof for a person: ``--health [--json]``."""

from __future__ import annotations

import datetime as dt
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from tresor.gpu.commands import runner
from tresor.gpu.cuda_memory import cuda_memory
from tresor.gpu.examine import booted_at, examine, needs
from tresor.gpu.gather import gather
from tresor.gpu.health import Finding, judge_health
from tresor.gpu.xid import parse_line
from tresor.system.whole_file import write_whole
from tresor_gpu_watcher import metrics, state
from tresor_gpu_watcher.act import Actor
from tresor_gpu_watcher.config import Config, ConfigError, load
from tresor_gpu_watcher.follow import Follower
from tresor_gpu_watcher.watch import Watch

EXIT_USAGE: Final = 2
EXIT_UNHEALTHY: Final = 3
_IDLE_SECONDS: Final = 60.0
_RETRY_SECONDS: Final = 5.0
_IGNORED: Final = frozenset({"xid", "module"})
"""XIDs of this boot stay in the log after a repair; they are what was repaired. That another driver
lies on disk is no fault of a GPU, and no reason to reboot."""
_LOST_AFTER: Final = 3
"""So often journalctl may end at once before the place in the journal counts as lost."""
_SYS: Final = Path("/sys")


def main(arguments: Sequence[str]) -> int:
    """Run the watcher with a configuration file, or prove health once."""
    if arguments and arguments[0] == "--health":
        return _health("--json" in arguments)
    if len(arguments) != 1:
        print("usage: CONFIG | --health [--json]", file=sys.stderr)
        return EXIT_USAGE
    try:
        config = load(Path(arguments[0]))
        kept = state.load(config.state_file)
    except (ConfigError, ValueError) as error:
        print(f"the watcher cannot start: {error}", file=sys.stderr)
        return EXIT_USAGE
    _serve(config, kept)
    return 0


def _serve(config: Config, kept: state.State) -> None:
    def audit(event: str, **fields: Any) -> None:  # noqa: ANN401 - values of records
        """Write one record to the journal, which forwards it."""
        record = {"event": f"gpu.{event}", "host": config.host, **fields}
        print(json.dumps(record, sort_keys=True), flush=True)

    def keep(current: state.State) -> None:
        state.save(config.state_file, current)
        figures = metrics.text(current, time.time())
        write_whole(config.metrics_file, figures, mode=0o644)

    def prove() -> list[str]:
        found = findings(config.command_timeout_seconds)
        return [str(finding) for finding in found if not finding.ok and finding.id not in _IGNORED]

    run = runner(config.command_timeout_seconds)
    watch = Watch(config, kept, Actor(config, run, prove, audit), audit, keep)
    watch.begin()
    follower = Follower()
    follower.start(kept.cursor)
    ended = 0
    while True:
        waits = watch.waits(time.time())
        found = follower.messages(_IDLE_SECONDS if waits is None else waits)
        if found is None:
            ended += 1
            audit("journal_ended", times=ended)
            time.sleep(_RETRY_SECONDS)
            if ended < _LOST_AFTER:
                follower.start(watch.state.cursor)
            else:
                # What was before is passed over: to act on it twice would be worse.
                follower.start_now()
            continue
        ended = 0
        for cursor, text in found:
            xid = parse_line(text)
            if xid is not None:
                watch.take(xid, cursor, time.time())
        watch.settle(time.time())
        keep(watch.state)


def findings(timeout: float) -> list[Finding]:
    """Return what health is judged by, without diagnosis and bandwidth."""
    run = runner(timeout)
    facts = gather(run, lambda: cuda_memory(timeout), _SYS)
    count, fabric, nvlink = needs(facts)
    read = examine(
        run,
        run,
        gpus=count,
        fabric=fabric,
        nvlink=nvlink,
        diag_level=0,
        bus=False,
        usual_bus_gb_s=None,
        booted=booted_at(dt.datetime.now().astimezone().replace(tzinfo=None)),
    )
    return judge_health(facts, read)


def _health(as_json: bool) -> int:
    found = findings(30.0)
    healthy = all(finding.ok for finding in found)
    if as_json:
        rows = [finding.as_dict() for finding in found]
        print(json.dumps({"healthy": healthy, "findings": rows}, indent=1))
    else:
        for finding in found:
            print(("ok      " if finding.ok else "FAILED  ") + str(finding))
    return 0 if healthy else EXIT_UNHEALTHY

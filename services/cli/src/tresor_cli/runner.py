"""Run one playbook through ansible-runner, one run at a time."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tresor_cli.errors import BusyError
from tresor_cli.paths import Paths
from tresor_cli.record import RunRecord, announce, host_counters, prune, write

if TYPE_CHECKING:
    from ansible_runner import Runner

KEEP_RUNS = 200


def release_id(project: Path) -> str | None:
    """Return the id of the imported release the project belongs to, None outside a store."""
    release = project.parent.parent / "release.json"
    if not release.is_file():
        return None
    identifier = json.loads(release.read_text(encoding="utf-8"))["tresor_release"]["id"]
    return str(identifier)


@contextmanager
def exclusive(runs: Path) -> Iterator[None]:
    """Hold the run lock; two converges at once would fight over the same hosts.

    Raises:
        BusyError: another run is under way.
    """
    runs.mkdir(parents=True, exist_ok=True)
    runs.chmod(0o700)  # events hold task results
    with (runs / ".lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BusyError(
                f"another run holds {runs / '.lock'}. Wait for it ('tresor runs') and try again."
            ) from error
        yield


def run(paths: Paths, playbook: str, arguments: Sequence[str], *, quiet: bool = False) -> RunRecord:
    """Run ``playbook`` of the release against the inventory and keep its events.

    The event record lies under ``<runs>/<id>/artifacts/``; the summary is ``record.json``.
    """
    path = paths.playbook(playbook)
    with exclusive(paths.runs):
        prune(paths.runs, KEEP_RUNS - 1)
        started = time.time()
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(started))
        identifier = f"{stamp}-{secrets.token_hex(3)}"
        run_dir = paths.runs / identifier
        run_dir.mkdir(mode=0o700)
        result = _ansible(paths, path, arguments, run_dir, identifier, quiet=quiet)
        record = RunRecord(
            id=identifier,
            playbook=playbook,
            arguments=tuple(arguments),
            started=started,
            ended=time.time(),
            status=str(result.status),
            rc=int(result.rc if result.rc is not None else 1),
            release=release_id(paths.project),
            hosts=host_counters(result.stats),
        )
        write(record, run_dir)
        announce(record)
        return record


def _ansible(
    paths: Paths,
    playbook: Path,
    arguments: Sequence[str],
    run_dir: Path,
    ident: str,
    *,
    quiet: bool,
) -> Runner:
    # Imported here: `tresor runs` and --help need no Ansible.
    import ansible_runner  # noqa: PLC0415

    return ansible_runner.run(
        private_data_dir=str(run_dir),
        ident=ident,
        project_dir=str(paths.project),
        playbook=str(playbook),
        inventory=str(paths.inventory),
        cmdline=_command_line(arguments),
        envvars={
            "ANSIBLE_CONFIG": str(paths.project / "ansible.cfg"),
            # The project is a read-only release: nothing may be written beside it.
            "ANSIBLE_HOME": "/var/lib/tresor/ansible",
            "PYTHONDONTWRITEBYTECODE": "1",
            "LC_ALL": "C.UTF-8",
            "PATH": _search_path(),
        },
        settings={"suppress_env_files": True},
        rotate_artifacts=0,
        quiet=quiet,
    )


def _search_path() -> str:
    """Return PATH with this environment's own ansible-playbook in front of any other."""
    return (
        f"{Path(sys.executable).parent}:{os.environ.get('PATH', '/usr/sbin:/usr/bin:/sbin:/bin')}"
    )


def _command_line(arguments: Sequence[str]) -> str | None:
    import shlex  # noqa: PLC0415

    return shlex.join(arguments) if arguments else None

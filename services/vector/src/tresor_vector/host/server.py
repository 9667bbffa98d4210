"""Run the real server, after its data directory was claimed.

The unit's main process stays in front of it: only that one gets the unit's credentials, which are
needed to change the default password, and the unit counts as started only after that.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tresor_vector.errors import VectorError
from tresor_vector.host import notify

_SIGNALLED: Final = 128


@dataclass(frozen=True)
class Server:
    """The server's program, its libraries, the folder of its milvus.yaml, and its data."""

    program: Path
    libraries: Path
    configuration: Path
    data: Path

    def start(self) -> subprocess.Popen[bytes]:
        """Start it.

        Raises:
            VectorError: the watch has not written the configuration, or there is no program.
        """
        if not (self.configuration / "milvus.yaml").is_file():
            raise VectorError(
                f"{self.configuration}/milvus.yaml is missing: tresor-milvus-watch.service writes "
                "it; look into its journal"
            )
        if not os.access(self.program, os.X_OK):
            raise VectorError(f"{self.program} is no program; converge the host again")
        environment = {
            "PATH": "/usr/bin:/bin",
            "HOME": str(self.data),
            "MILVUSCONF": str(self.configuration),
            "LD_LIBRARY_PATH": str(self.libraries),
            "DEPLOY_MODE": "STANDALONE",
        }
        return subprocess.Popen(
            [str(self.program), "run", "standalone"],
            cwd=self.data, env=environment, stdin=subprocess.DEVNULL,
        )  # fmt: skip


def run(server: Server, secure: Callable[[Callable[[], bool]], bool]) -> int:
    """Run the server until it ends or SIGTERM asks for that; return the status to exit with.

    ``secure`` gets a function that says whether the server still runs, refuses the default password
    and returns whether it had to change it. While it works the unit is not started.

    Raises:
        VectorError: the server cannot be started or secured; it is stopped then.
    """
    asked = False
    process = server.start()

    def stop(*_: object) -> None:
        nonlocal asked
        asked = True
        process.send_signal(signal.SIGTERM)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    try:
        changed = secure(lambda: process.poll() is None)
    except BaseException:
        process.kill()
        process.wait()
        if asked:
            return 0
        raise
    print("default password changed" if changed else "default password is refused", flush=True)
    notify.ready("the server answers and refuses the default password")
    status = process.wait()
    # Asked to stop, it ends its work and then aborts: that is its normal end.
    if asked:
        return 0
    return status if status >= 0 else _SIGNALLED - status

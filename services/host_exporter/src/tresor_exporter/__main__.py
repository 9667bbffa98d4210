"""``python -m tresor_exporter --config FILE [--check]``."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Final

from tresor_exporter import __version__
from tresor_exporter import config as configuration
from tresor_exporter.collectors.log import LogCollector
from tresor_exporter.collectors.probe import ProbeCollector
from tresor_exporter.errors import ConfigError, ExporterError
from tresor_exporter.registry import HostMetrics, build
from tresor_exporter.schema import Config
from tresor_exporter.server import MetricsServer

EXIT_CONFIG: Final = 78


def main(arguments: list[str] | None = None) -> int:
    """Run the service; exit status 78 when configuration or surroundings are wrong."""
    parser = argparse.ArgumentParser(prog="python -m tresor_exporter", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="the configuration (JSON)")
    parser.add_argument("--check", action="store_true", help="only check the configuration")
    parser.add_argument("--version", action="version", version=__version__)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stderr)
    os.umask(0o077)
    try:
        config = configuration.load(options.config)
        if options.check:
            print(f"{options.config}: ok")
            return 0
        return serve(config)
    except ExporterError as error:
        print(f"tresor-exporter: {error}", file=sys.stderr)
        return EXIT_CONFIG


def serve(config: Config) -> int:
    """Serve until SIGTERM or SIGINT.

    Raises:
        ConfigError: the address or the state directory cannot be used.
    """
    if not os.access(config.state_directory, os.W_OK | os.X_OK):
        raise ConfigError(f"{config.state_directory}: cannot be written; create it for this user")
    collectors = build(config)
    try:
        server = MetricsServer(
            config.listen_host, config.listen_port, HostMetrics(collectors).registry()
        )
    except OSError as error:
        raise ConfigError(
            f"{config.listen_host}:{config.listen_port}: {error.strerror}; free it or change listen"
        ) from error

    def stop(_number: int, _frame: FrameType | None) -> None:
        # shutdown() waits for the loop that this very handler interrupts.
        threading.Thread(target=server.shutdown, daemon=True).start()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    for collector in collectors:
        if isinstance(collector, LogCollector):
            collector.begin()
    probes = [collector for collector in collectors if isinstance(collector, ProbeCollector)]
    for probe in probes:
        probe.start()
    names = ", ".join(collector.name for collector in collectors) or "no collector"
    logging.getLogger(__name__).info("listening on %s:%d: %s", *server.server_address[:2], names)
    with server:
        server.serve_forever(poll_interval=5)
    for probe in probes:
        probe.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())

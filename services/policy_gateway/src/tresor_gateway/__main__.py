"""``python -m tresor_gateway --config FILE [--check]``."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
from pathlib import Path
from typing import Final

import uvloop

from tresor_gateway import __version__
from tresor_gateway import config as configuration
from tresor_gateway.config_schema import Config
from tresor_gateway.errors import GatewayError
from tresor_gateway.process import child, portal, single
from tresor_gateway.process.files import raise_limit
from tresor_gateway.process.supervisor import Supervisor

EXIT_CONFIG: Final = 78


def main(arguments: list[str] | None = None) -> int:
    """Run the service; exit status 78 when configuration or surroundings are wrong."""
    parser = argparse.ArgumentParser(prog="python -m tresor_gateway", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="the configuration (YAML)")
    parser.add_argument("--check", action="store_true", help="only check the configuration")
    parser.add_argument("--version", action="version", version=__version__)
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--portal", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--channel", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--listener", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stderr)
    # Everything this service creates is for itself and its group.
    os.umask(0o027)
    try:
        config = configuration.load(options.config)
        if options.check:
            print(f"{options.config}: ok")
            return 0
        raise_limit(config)
        if options.worker is not None and options.channel is not None:
            descriptors = (options.channel, options.listener)
            uvloop.run(child.run(config, options.config, options.worker, *descriptors))
            return 0
        if options.portal and options.channel is not None:
            descriptors = (options.channel, options.listener)
            uvloop.run(portal.run(config, options.config, *descriptors))
            return 0
        if config.workers == 1 and config.listen.tcp is not None:
            uvloop.run(single.run(config, options.config))
            return 0
        return asyncio.run(_supervise(config, options.config))
    except GatewayError as error:
        print(f"tresor-gateway: {error}", file=sys.stderr)
        return EXIT_CONFIG


async def _supervise(config: Config, path: Path) -> int:
    return await Supervisor(config, path).run()


if __name__ == "__main__":
    sys.exit(main())

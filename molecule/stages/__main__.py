"""Command line: ``python -m stages demo`` and the single stages the molecule scenario calls."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

from stages import (
    boot,
    browser,
    bundle,
    delta,
    demo,
    evaluate,
    gpu_host,
    multi_node,
    older_core,
    operate,
    removal,
    renewal,
    siem,
    single_node,
    site_import,
    tamper,
    vector_standalone,
)
from stages.shell import BUILD, StageError, lab, run


def _log_to(path: str | None) -> None:
    """Append all output to ``path``: molecule keeps a stage's output back until it ends."""
    if path:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        log = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        os.dup2(log, sys.stdout.fileno())
        os.dup2(log, sys.stderr.fileno())


def _create() -> None:
    boot.preflight()
    built = boot.trees_and_bundle()
    boot.hosts()
    boot.company(built)
    boot.inventory()


def _import() -> None:
    site_import.import_bundle(bundle.BUNDLE)


def _converge() -> None:
    _keep("converge.json", operate.converge())


def _check() -> None:
    _keep("check.json", operate.check_mode())


def _verify() -> None:
    _keep("evidence.json", operate.verify())


def _destroy() -> None:
    run(lab("destroy"), what="lab destroy")


def _keep(name: str, content: object) -> None:
    BUILD.mkdir(exist_ok=True)
    (BUILD / name).write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", "utf-8")


VERBS: dict[str, Callable[[], None]] = {
    "delta": delta.main,
    "demo": demo.main,
    "create": _create,
    "refuse-tampered": tamper.main,
    "import": _import,
    "converge": _converge,
    "browser": browser.main,
    "check": _check,
    "evaluate": evaluate.main,
    "multi-node": multi_node.main,
    "older-core": older_core.main,
    "single-node": single_node.main,
    "gpu-host": gpu_host.main,
    "removal": removal.main,
    "renewal": renewal.main,
    "trust": operate.trust_collector,
    "verify": _verify,
    "vector-standalone": vector_standalone.main,
    "destroy": _destroy,
}


def main() -> int:
    """Run one verb; 1 when a stage failed, with the reason on standard error."""
    _log_to(os.environ.get("TRESOR_STAGES_LOG"))
    parser = argparse.ArgumentParser(prog="stages", description=__doc__)
    parser.add_argument("verb", choices=sorted([*VERBS, "siem"]))
    parser.add_argument("--seconds", type=float, default=30, help="siem: the collector's absence")
    parser.add_argument("--records", type=int, default=20_000, help="siem: how many are written")
    arguments = parser.parse_args()
    try:
        if arguments.verb == "siem":
            siem.keep(siem.main(arguments.seconds, arguments.records))
        else:
            VERBS[arguments.verb]()
    except StageError as error:
        print(f"\nstages: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

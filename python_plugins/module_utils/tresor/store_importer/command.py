"""Run the importer and hand back what it said.

The modules do not import the importer's code: what decides about a bundle is the one file whose
fingerprint was compared with the paper, whatever is installed beside it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

Execute = Callable[..., tuple[int, str, str]]
"""``AnsibleModule.run_command``."""


class ImporterError(Exception):
    """The importer refused, or could not be run; ``rule`` names the check."""

    def __init__(self, rule: str, message: str) -> None:
        super().__init__(message)
        self.rule = rule


def importer_spec() -> dict[str, dict[str, Any]]:
    """Return the options that all modules of the importer share."""
    return {
        "program": {"type": "path", "default": "/usr/local/sbin/tresor-importer"},
        "store": {"type": "path", "default": "/srv/tresor/store"},
    }


def call(
    execute: Execute, program: str, store: str, verb: str, arguments: Sequence[str] = ()
) -> dict[str, Any]:
    """Run one verb and return its JSON.

    Raises:
        ImporterError: with the importer's own rule, or ``environment.importer``.
    """
    command = [program, verb, "--json", "--store", store, *arguments]
    try:
        code, said, complained = execute(command, handle_exceptions=False)
    except OSError as error:
        raise ImporterError(
            "environment.importer",
            f"cannot run {program}: {error.strerror or error}. Do the first import with "
            "importer.pyz as docs/runbooks/import.md says",
        ) from error
    try:
        found = json.loads(said)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        text = (complained or said).strip()[-2000:] or "nothing"
        raise ImporterError(
            "environment.importer", f"{program} {verb} ended with {code} and said: {text}"
        )
    if found.get("failed") or (code != 0 and "findings" not in found):
        path = f" [{found['path']}]" if found.get("path") else ""
        rule = str(found.get("rule", "environment.importer"))
        raise ImporterError(rule, f"{rule}: {found.get('message', complained)}{path}")
    return found

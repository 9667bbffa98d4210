"""The table of options in a role's README, made from its argument_specs.

``python -m python_plugins.tests.contract.variables_table ROLE...`` writes it into the READMEs; the
contract test compares.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import yaml

BEGIN = "<!-- options: begin, written by python_plugins/tests/contract/variables_table.py -->"
END = "<!-- options: end -->"


def table(role: Path) -> str:
    """Return the Markdown between the two marks, with them."""
    specs = yaml.safe_load((role / "meta" / "argument_specs.yml").read_text(encoding="utf-8"))
    options = specs["argument_specs"]["main"].get("options") or {}
    rows = [_row(name, option) for name, option in options.items()]
    head = "| option | type | default | meaning |\n|---|---|---|---|\n"
    return f"{BEGIN}\n{head}{''.join(rows)}{END}"


def with_table(text: str, wanted: str) -> str:
    """Return the README with the table in its place, at the end if it has none yet."""
    if BEGIN not in text:
        return f"{text.rstrip()}\n\n## Options\n\n{wanted}\n"
    before, rest = text.split(BEGIN, 1)
    return f"{before}{wanted}{rest.split(END, 1)[1]}"


def _row(name: str, option: dict[str, Any]) -> str:
    default = "required" if option.get("required") else f"`{_compact(option.get('default'))}`"
    description = option["description"]
    if isinstance(description, list):
        description = " ".join(description)
    kind = option["type"] + (f" of {option['elements']}" if "elements" in option else "")
    return f"| `{name}` | {kind} | {default} | {' '.join(description.split())} |\n"


def _compact(value: object) -> str:
    return value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)


def main() -> None:
    """Write the tables of the roles named on the command line."""
    for argument in sys.argv[1:]:
        readme = Path(argument) / "README.md"
        readme.write_text(
            with_table(readme.read_text(encoding="utf-8"), table(Path(argument))), encoding="utf-8"
        )


if __name__ == "__main__":
    main()

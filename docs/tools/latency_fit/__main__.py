"""Fit, cross-validate and write the constants: ``python -m docs.tools.latency_fit ROWS.csv``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from .plot import picture
from .priors import FIXED, priors
from .report import Prediction, by_kind, in_sample, leave_out, table_of
from .rows import Case, read_cases
from .solve import fit

ROOT = Path(__file__).resolve().parents[3]
FITTED = ROOT / "python_plugins/module_utils/tresor/sizing/latency/fitted.py"
HEAD = '''"""Fitted constants. Written by docs/tools/latency_fit; do not edit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from .constants import Constants

'''


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the tool."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", type=Path, help="table of published figures (CSV)")
    parser.add_argument("--write", action="store_true", help="write the constants")
    parser.add_argument("--plot", type=Path, help="write the picture of the cross-validation")
    parser.add_argument("--verbose", action="store_true", help="print every prediction")
    parser.add_argument("--no-cross-validation", action="store_true", help="fit only")
    options = parser.parse_args(arguments)
    cases = read_cases(options.rows)
    table = priors()
    logs = fit(cases, table)
    seen = in_sample(cases, logs)
    print(table_of("In sample", seen, _kind))
    if options.verbose:
        _print_each(seen)
    if options.no_cross_validation:
        return 0
    families = leave_out(cases, table, lambda case: case.family)
    print(table_of("Leave one model family out, by metric kind", families, _kind))
    print(table_of("Leave one model family out, by family", families, _family))
    print(table_of("The same, by metric kind and measure", families, _measure))
    models = leave_out(cases, table, lambda case: case.questions[0][0].shape.name.lower())
    print(table_of("Leave one model out, by metric kind", models, _kind))
    cards = leave_out(cases, table, lambda case: case.card)
    print(table_of("Leave one GPU architecture out, by metric kind", cards, _kind))
    if options.plot is not None:
        options.plot.write_text(picture(families), encoding="utf-8")
    if options.write:
        FITTED.write_text(_text({**FIXED, **logs}, models), encoding="utf-8")
    return 0


def _kind(case: Case) -> str:
    return case.kind


def _family(case: Case) -> str:
    return f"{case.family}, {case.kind}"


def _measure(case: Case) -> str:
    return f"{case.kind}, {case.measure}"


def _print_each(predictions: Sequence[Prediction]) -> None:
    for one in predictions:
        case = one.case
        question = case.questions[0][0]
        print(
            f"{case.row} {question.shape.name} {question.gpu.name} {question.layout.gpus} "
            f"{question.engine.name} {question.request.input_tokens:.0f}/"
            f"{question.request.output_tokens:.0f} x{question.users:.0f} {case.kind} "
            f"{case.measure} {case.measured:.5g} -> {one.predicted:.5g} "
            f"({one.predicted / case.measured - 1:+.0%})"
        )


def _text(logs: dict[str, float], predictions: Sequence[Prediction]) -> str:
    lines = [HEAD, "CONSTANTS: Final = Constants(\n    {\n"]
    lines += [f'        "{name}": {value:.4f},\n' for name, value in sorted(logs.items())]
    lines.append("    }\n)\n")
    lines.append(
        "# Figures, median and 90th percentile of the error in percent: one model left out.\n"
    )
    lines.append("ERRORS: Final[Mapping[str, tuple[int, float, float]]] = {\n")
    for kind, (count, middle, late) in by_kind(predictions).items():
        lines.append(f'    "{kind}": ({count}, {100 * middle:.1f}, {100 * late:.1f}),\n')
    lines.append("}\n")
    return "".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())

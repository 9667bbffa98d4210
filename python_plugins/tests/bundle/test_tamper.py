"""The lab's tampered bundles, tried on a tiny one: each is refused by the stage's rule."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from python_plugins.tests.bundle.helpers import Maker, Site
from stages import tamper
from stages.shell import StageError
from tresor.bundle.errors import RejectedError

_BY_NAME = {case.name: case for case in tamper.CASES}


@pytest.mark.parametrize("name", _BY_NAME)
def test_tampered_bundle_is_refused_by_its_rule(
    site: Site, maker: Maker, name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tamper, "_WORK", tmp_path / "work")
    good = maker.make()
    raws = {path: path.read_bytes() for path in good.rglob("*") if path.is_file()}
    # As in the stage: a first import that failed on its contents has pinned the trusted root.
    tamper.CASES[0].spoil(good)
    with pytest.raises(RejectedError):
        site.take(maker)
    for path, raw in raws.items():
        path.write_bytes(raw)
    case = _BY_NAME[name]
    case.spoil(good)
    with pytest.raises(RejectedError) as caught:
        site.take(maker)
    assert caught.value.rule == case.rule


def test_every_signature_under_the_trusted_root_is_tried() -> None:
    flipped = {case.name for case in tamper.CASES if case.name.startswith("flipped byte")}
    assert len(flipped) == 3


def said(rule: str) -> str:
    return json.dumps({"failed": True, "rule": rule, "message": "no"}) + "\n"


def test_right_exit_code_with_another_rule_is_a_failure() -> None:
    tamper.expect((3, "content.digest"), (3, said("content.digest"), ""), "x")
    for seen in ((3, said("content.size"), ""), (4, said("content.digest"), ""), (3, "", "boom")):
        with pytest.raises(StageError, match="expected exit code 3 by rule content"):
            tamper.expect((3, "content.digest"), seen, "x")

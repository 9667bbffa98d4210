"""The long form of the fuzzing: 2,000 flips of the payload."""

from __future__ import annotations

from python_plugins.tests.bundle.helpers import Maker, Site
from python_plugins.tests.bundle.test_attacks import try_flips


def test_two_thousand_flipped_bits_of_the_payload_are_refused(site: Site, maker: Maker) -> None:
    try_flips(site, maker, 2_000, seed=2)

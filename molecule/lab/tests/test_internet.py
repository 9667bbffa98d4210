"""internet1 counts what arrives from the site."""

from __future__ import annotations

import pytest

from lab.errors import LabError
from lab.internet import Count, counter_rules, files, parse_counter
from lab.seed import File

LISTING = """\
Chain PREROUTING (policy ACCEPT 46 packets, 2882 bytes)
    pkts      bytes target     prot opt in     out     source               destination
      28     1606            all  --  *      *       198.51.100.0/25      0.0.0.0/0    \
        /* from-the-site */
"""


def test_counter_is_read_from_its_rule_and_not_from_the_policy() -> None:
    assert parse_counter(LISTING) == Count(28, 1606)


def test_missing_rule_is_an_error_and_not_zero() -> None:
    with pytest.raises(LabError, match="not in the raw table"):
        parse_counter(LISTING.splitlines()[0])


def test_rule_counts_the_prefix_and_decides_nothing() -> None:
    rules = counter_rules("2001:db8:51::/64")
    assert "-s 2001:db8:51::/64" in rules
    assert "-j" not in rules.split()


def test_both_families_of_the_site_are_counted() -> None:
    contents = "".join(str(entry.content) for entry in files() if isinstance(entry, File))
    assert "-s 198.51.100.0/25" in contents
    assert "-s 2001:db8:51::/64" in contents

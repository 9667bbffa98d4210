"""A counter and a histogram, as cheap as a dict entry; text form by Prometheus' rules."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Final

Labels = tuple[str, ...]
Samples = dict[str, list[str]]


def _escape(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _labels(names: Labels, values: Labels) -> str:
    if not names:
        return ""
    pairs = (f'{name}="{_escape(value)}"' for name, value in zip(names, values, strict=True))
    return "{" + ",".join(pairs) + "}"


class Family:
    """Name, type, help text and labels of a metric."""

    kind = "untyped"

    def __init__(self, name: str, help_text: str, labels: Labels = ()) -> None:
        self.name = name
        self.help_text = help_text
        self.labels = labels

    def header(self) -> list[str]:
        """The two comment lines."""
        return [f"# HELP {self.name} {self.help_text}", f"# TYPE {self.name} {self.kind}"]

    def samples(self, worker: str) -> list[str]:
        """The sample lines; each carries the worker, since counters restart with it."""
        raise NotImplementedError


class Counter(Family):
    """Only goes up."""

    kind = "counter"

    def __init__(self, name: str, help_text: str, labels: Labels = ()) -> None:
        super().__init__(name, help_text, labels)
        self._values: defaultdict[Labels, int] = defaultdict(int)

    def add(self, *values: str, amount: int = 1) -> None:
        """Count."""
        self._values[values] += amount

    def samples(self, worker: str) -> list[str]:
        """One line per combination of labels seen."""
        names = (*self.labels, "worker")
        return [
            f"{self.name}{_labels(names, (*values, worker))} {count}"
            for values, count in self._values.items()
        ]


class Gauge(Family):
    """Asked for when it is read."""

    kind = "gauge"

    def __init__(
        self,
        name: str,
        help_text: str,
        read: Callable[[], Iterable[tuple[Labels, float]]],
        labels: Labels = (),
        kind: str = "gauge",
    ) -> None:
        super().__init__(name, help_text, labels)
        self._read = read
        self.kind = kind

    def samples(self, worker: str) -> list[str]:
        """One line per value."""
        names = (*self.labels, "worker")
        return [
            f"{self.name}{_labels(names, (*values, worker))} {number:.12g}"
            for values, number in self._read()
        ]


class Histogram(Family):
    """Counts per upper edge (seconds)."""

    kind = "histogram"

    def __init__(
        self, name: str, help_text: str, edges: tuple[float, ...], labels: Labels = ()
    ) -> None:
        super().__init__(name, help_text, labels)
        self._edges: Final = edges
        self._values: dict[Labels, tuple[list[int], list[float]]] = {}

    def observe(self, value: float, *values: str) -> None:
        """Sort a value (seconds) in."""
        entry = self._values.get(values)
        if entry is None:
            entry = self._values[values] = ([0] * (len(self._edges) + 1), [0.0])
        entry[0][bisect_left(self._edges, value)] += 1
        entry[1][0] += value

    def samples(self, worker: str) -> list[str]:
        """Cumulative buckets, sum and count."""
        names = (*self.labels, "worker")
        out: list[str] = []
        for values, (counts, total) in self._values.items():
            all_values = (*values, worker)
            seen = 0
            for edge, count in zip((*self._edges, float("inf")), counts, strict=True):
                seen += count
                text = "+Inf" if edge == float("inf") else f"{edge:.12g}"
                labels = _labels((*names, "le"), (*all_values, text))
                out.append(f"{self.name}_bucket{labels} {seen}")
            out.append(f"{self.name}_sum{_labels(names, all_values)} {total[0]:.9g}")
            out.append(f"{self.name}_count{_labels(names, all_values)} {seen}")
        return out


class Registry:
    """The metrics of one process."""

    def __init__(self) -> None:
        self._families: list[Family] = []

    def add(self, family: Family) -> None:
        """Show a metric from now on."""
        self._families.append(family)

    def collect(self, worker: str) -> list[tuple[list[str], list[str]]]:
        """Header and sample lines of each metric."""
        return [(family.header(), family.samples(worker)) for family in self._families]


def render(collected: Iterable[list[tuple[list[str], list[str]]]]) -> str:
    """Merge what several processes collected: a metric's lines must stand together."""
    headers: dict[str, list[str]] = {}
    merged: Samples = {}
    for families in collected:
        for header, samples in families:
            headers.setdefault(header[0], header)
            merged.setdefault(header[0], []).extend(samples)
    lines = [line for key, header in headers.items() for line in (*header, *merged[key])]
    return "\n".join(lines) + "\n"

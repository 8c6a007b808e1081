"""Metrics as a scraper reads them."""

from __future__ import annotations

from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families


@dataclass(frozen=True)
class Metrics:
    """One scrape of `/metrics`."""

    samples: dict[tuple[str, frozenset[tuple[str, str]]], float]

    def of(self, name: str, **labels: str) -> float:
        """Return the sum over the series of that name that have these labels; fail if there is none."""
        found = [value for (one, has), value in self.samples.items() if one == name and has >= labels.items()]
        assert found, f"there is no {name} with {labels}"
        return sum(found)

    def has(self, name: str, **labels: str) -> bool:
        """Return whether there is such a series."""
        return any(one == name and has >= labels.items() for one, has in self.samples)

    @property
    def names(self) -> set[str]:
        """Return the name of every series."""
        return {name for name, _ in self.samples}


def read(text: str) -> Metrics:
    """Parse the text; fail if it is malformed or contains a series twice."""
    samples: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            key = sample.name, frozenset(sample.labels.items())
            assert key not in samples, key
            samples[key] = sample.value
    return Metrics(samples)

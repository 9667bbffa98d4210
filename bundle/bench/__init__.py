"""Figures of the importer: interleaved rounds on cold data, medians, one JSON object at the end."""

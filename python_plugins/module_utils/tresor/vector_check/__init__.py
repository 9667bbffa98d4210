"""Proves from the bastion that the vector database serves its clients and nobody else."""

from __future__ import annotations

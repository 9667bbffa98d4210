"""What a host's NVIDIA GPUs are and how they stand, read without changing anything.

Commands and files stand at the rim (`commands`, `gather`); the parsers take text and give values.
"""

from __future__ import annotations

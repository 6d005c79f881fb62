"""Cost tables that nobody measured."""

from __future__ import annotations

from dspark_engines.backends import EngineOptions
from dspark_engines.bundle import Bundle
from dspark_engines.measured import CostTable, Timing, take_fingerprint


def made_up_costs(bundle: Bundle, options: EngineOptions) -> CostTable:
    """Steps of 1 ms and 0.1 ms more a token: enough to make schedulers choose."""
    times = {"low": 1e-3, "high": 1e-3, "samples": 3, "context": 32}
    block = bundle.manifest.drafter.block_size
    verify = [
        Timing(rows=rows, tokens=rows * n, seconds=1e-3 + 1e-4 * rows * n, **times)
        for rows in (1, 2, 4, 8)
        for n in range(1, block + 2)
    ]
    draft = [Timing(rows=rows, tokens=rows * block, seconds=5e-4, **times) for rows in (1, 2, 4, 8)]
    here = take_fingerprint(bundle, "onnxruntime", options)
    return CostTable(fingerprint=here, verify=verify, draft=draft, overhead_seconds=1e-4)

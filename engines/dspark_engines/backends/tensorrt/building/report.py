"""What became of the graph: layers by type, for the bundle."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any


def network_report(network: Any) -> dict[str, Any]:
    """The network as parsed: `layers` counted by type; native attention, cache updates and our plugins by name."""
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    kinds = [str(layer.type).removeprefix("LayerType.") for layer in layers]
    native = {"KV_CACHE_UPDATE", "ATTENTION_INPUT", "ROTARY_EMBEDDING"}
    named = list(zip((layer.name for layer in layers), kinds, strict=True))
    return {
        "source": "network",
        "layers": dict(sorted(Counter(kinds).items())),
        "native": [name for name, kind in named if kind in native],
        "plugins": [name for name, kind in named if kind == "PLUGIN_V3"],
    }


def engine_report(trt: Any, runtime: Any, path: Path) -> dict[str, Any] | None:
    """The engine's layers as its inspector tells them; None without a GPU, which it needs."""
    engine = runtime.deserialize_cuda_engine(path.read_bytes())
    if engine is None:
        return None
    text = engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON)
    return {"source": "engine inspector", **json.loads(text)}


def write_report(path: Path, report: dict[str, Any]) -> None:
    """Write a report as JSON."""
    path.write_text(json.dumps(report, indent=1) + "\n", "utf-8")

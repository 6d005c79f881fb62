"""Which tensors a chain implies, by canonical name."""

from __future__ import annotations

from dspark_export.checkpoints.spec import ChainSpec, DecoderShape, LayerSpec
from dspark_export.checkpoints.tensors import Shape


def eagle3_tensors(shape: DecoderShape, chain: ChainSpec, taps: int, layers: dict[str, Shape]) -> dict[str, Shape]:
    """Of an eagle3 drafter with so many taps; `layers` are those of ordinary layers and the final norm."""
    hidden, first = shape.hidden_size, shape.layers[0]
    norms: dict[str, Shape] = {"input_norm.weight": (taps * hidden,)} if chain.tap_norm == "whole" else {}
    if chain.tap_norm == "each":
        norms = {f"fc_norm.{i}.weight": (hidden,) for i in range(taps)}
    return {
        "fc.weight": (hidden, taps * hidden),
        **norms,
        "layers.0.hidden_norm.weight": (hidden,),
        **layers,
        **_wide_projections(hidden, first),
    }


def mtp_tensors(shape: DecoderShape, chain: ChainSpec, layers: dict[str, Shape]) -> dict[str, Shape]:
    """Of an mtp drafter; every stage has a final norm of its own."""
    hidden = shape.hidden_size
    stages: dict[str, Shape] = {}
    for stage in range(chain.stages):
        stages |= {f"stages.{stage}.{name}.weight": (hidden,) for name in ("embedding_norm", "hidden_norm", "norm")}
        stages[f"stages.{stage}.fc.weight"] = (hidden, 2 * hidden)
    return stages | {name: size for name, size in layers.items() if name != "norm.weight"}


def _wide_projections(hidden: int, layer: LayerSpec) -> dict[str, Shape]:
    """Those of eagle3's first layer, which read the embedding and the state."""
    sizes = {"q": layer.query_size, "k": layer.kv_size} | ({} if layer.shared_values else {"v": layer.kv_size})
    return {f"layers.0.self_attn.{which}_proj.weight": (size, 2 * hidden) for which, size in sizes.items()}

"""Which tensors a spec implies, by canonical name: the list that a checkpoint is held against."""

from __future__ import annotations

from dspark_export.checkpoints.expected_chain import eagle3_tensors, mtp_tensors
from dspark_export.checkpoints.spec import DecoderShape, DrafterSpec, ExpertSpec, LayerSpec, TargetSpec
from dspark_export.checkpoints.tensors import Shape


def decoder_tensors(shape: DecoderShape) -> dict[str, Shape]:
    """Tensors of the decoder layers and the final norm."""
    tensors: dict[str, Shape] = {"norm.weight": (shape.hidden_size,)}
    for i, layer in enumerate(shape.layers):
        tensors |= {f"layers.{i}.{name}": size for name, size in _layer(shape.hidden_size, layer).items()}
    return tensors


def target_tensors(spec: TargetSpec) -> dict[str, Shape]:
    """All tensors of a target; the head only when it is not the embedding."""
    table = (spec.vocab_size, spec.shape.hidden_size)
    head = {} if spec.tied_embeddings else {"lm_head.weight": table}
    return {"embed_tokens.weight": table, **head, **decoder_tensors(spec.shape), **_per_layer_inputs(spec)}


def _per_layer_inputs(spec: TargetSpec) -> dict[str, Shape]:
    """Gemma's second table, and the projection that is added to what it gives."""
    width, hidden = spec.shape.layers[0].per_layer_input, spec.shape.hidden_size
    if not width:
        return {}
    return {
        "embed_tokens_per_layer.weight": (spec.vocab_size, spec.shape.num_layers * width),
        "per_layer_model_projection.weight": (spec.shape.num_layers * width, hidden),
        "per_layer_projection_norm.weight": (width,),
    }


def drafter_tensors(spec: DrafterSpec) -> dict[str, Shape]:
    """All tensors of a drafter except its embedding and head, which may be absent."""
    hidden = spec.shape.hidden_size
    if spec.chain is not None:
        layers, taps = decoder_tensors(spec.shape), len(spec.target_layer_ids)
        if spec.chain.kind == "mtp":
            return mtp_tensors(spec.shape, spec.chain, layers)
        return eagle3_tensors(spec.shape, spec.chain, taps, layers)
    return {
        "fc.weight": (hidden, spec.feature_size),
        "hidden_norm.weight": (hidden,),
        **decoder_tensors(spec.shape),
        **_markov(spec),
        **_confidence(spec),
    }


def drafter_optional_tensors(spec: DrafterSpec) -> dict[str, Shape]:
    """Frozen copies of the target's embedding and head that a drafter may carry."""
    hidden = spec.shape.hidden_size
    return {"embed_tokens.weight": (spec.vocab_size, hidden), "lm_head.weight": (spec.draft_vocab_size, hidden)}


def _layer(hidden: int, layer: LayerSpec) -> dict[str, Shape]:
    return {
        "input_layernorm.weight": (hidden,),
        "post_attention_layernorm.weight": (hidden,),
        **{f"self_attn.{which}_proj.weight": (size, hidden) for which, size in _projections(layer).items()},
        "self_attn.o_proj.weight": (hidden, layer.query_size),
        **_mlp(hidden, layer),
        **_norms(hidden, layer),
        **_biases(hidden, layer),
        **_of_gemma4(hidden, layer),
    }


def _projections(layer: LayerSpec) -> dict[str, int]:
    """Widths of what attention makes of its input."""
    sizes = {"q": layer.query_size}
    if layer.keys_from is None:
        sizes["k"] = layer.kv_size
        sizes |= {} if layer.shared_values else {"v": layer.kv_size}
    return sizes


def _norms(hidden: int, layer: LayerSpec) -> dict[str, Shape]:
    norms: dict[str, Shape] = {}
    if layer.qk_norm:
        norms = {f"self_attn.{which}_norm.weight": (layer.head_dim,) for which in _projections(layer) if which != "v"}
    if layer.sandwich:
        norms |= {"pre_feedforward_layernorm.weight": (hidden,), "post_feedforward_layernorm.weight": (hidden,)}
    return norms


def _of_gemma4(hidden: int, layer: LayerSpec) -> dict[str, Shape]:
    width = layer.per_layer_input
    tensors: dict[str, Shape] = {"layer_scalar": (1,)} if layer.layer_scalar else {}
    if width:
        tensors |= {
            "per_layer_input_gate.weight": (width, hidden),
            "per_layer_projection.weight": (hidden, width),
            "post_per_layer_input_norm.weight": (hidden,),
        }
    return tensors


def _mlp(hidden: int, layer: LayerSpec) -> dict[str, Shape]:
    inner, experts = layer.intermediate_size, layer.experts
    if experts is not None and not experts.parallel_width:
        router: dict[str, Shape] = {"mlp.router.weight": (experts.count, hidden)}
        router |= {"mlp.router.bias": (experts.count,)} if experts.biased else {}
        return router | _experts("mlp.experts", hidden, inner, experts)
    return _parallel_experts(hidden, experts) | {
        "mlp.gate_proj.weight": (inner, hidden),
        "mlp.up_proj.weight": (inner, hidden),
        "mlp.down_proj.weight": (hidden, inner),
    }


def _parallel_experts(hidden: int, experts: ExpertSpec | None) -> dict[str, Shape]:
    """What stands beside an MLP: experts, their router, and the norms of both."""
    if experts is None:
        return {}
    norms = ("post_feedforward_layernorm_1", "pre_feedforward_layernorm_2", "post_feedforward_layernorm_2")
    return {
        "router.proj.weight": (experts.count, hidden),
        "router.scale": (hidden,),
        "router.per_expert_scale": (experts.count,),
        **_experts("experts", hidden, experts.parallel_width, experts),
        **{f"{norm}.weight": (hidden,) for norm in norms},
    }


def _experts(prefix: str, hidden: int, inner: int, experts: ExpertSpec) -> dict[str, Shape]:
    """Weights of all experts stand in one tensor, expert first."""
    count = experts.count
    outs = {"gate": inner, "up": inner, "down": hidden}
    ins = {"gate": hidden, "up": hidden, "down": inner}
    tensors: dict[str, Shape] = {f"{prefix}.{which}_proj.weight": (count, outs[which], ins[which]) for which in outs}
    if experts.biased:
        tensors |= {f"{prefix}.{which}_proj.bias": (count, outs[which]) for which in outs}
    return tensors


def _biases(hidden: int, layer: LayerSpec) -> dict[str, Shape]:
    sizes = _projections(layer) if layer.qkv_bias else {}
    sizes |= {"o": hidden} if layer.output_bias else {}
    sinks: dict[str, Shape] = {"self_attn.sinks": (layer.num_heads,)} if layer.sinks else {}
    return sinks | {f"self_attn.{which}_proj.bias": (size,) for which, size in sizes.items()}


def _markov(spec: DrafterSpec) -> dict[str, Shape]:
    rank, hidden = spec.markov.rank, spec.shape.hidden_size
    if spec.markov.kind == "none":
        return {}
    tensors: dict[str, Shape] = {
        "markov_head.markov_w1.weight": (spec.vocab_size, rank),
        "markov_head.markov_w2.weight": (spec.draft_vocab_size, rank),
    }
    if spec.markov.kind == "gated":
        tensors |= {
            "markov_head.gate_proj.weight": (rank, hidden + rank),
            "markov_head.gate_proj.bias": (rank,),
        }
    if spec.markov.kind == "rnn":
        tensors |= {
            "markov_head.joint_proj.weight": (3 * rank, 2 * rank + hidden),
            "markov_head.joint_proj.bias": (3 * rank,),
        }
    return tensors


def _confidence(spec: DrafterSpec) -> dict[str, Shape]:
    if not spec.confidence.enabled:
        return {}
    width = spec.shape.hidden_size + (spec.markov.rank if spec.confidence.with_markov else 0)
    return {"confidence_head.proj.weight": (1, width), "confidence_head.proj.bias": (1,)}

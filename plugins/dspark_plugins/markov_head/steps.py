"""The steps of `dspark::MarkovHead` as plugin nodes: what TensorRT runs in its place, position after position.

B rows, g = block, V = vocab, r = rank, H = hidden, n = the number of tiles of `TILE` tokens. Types: see the nodes.

    MarkovMixGated       projected [B, g, r], w1, mix_weight, previous [B] -> mixed [B, r]
    MarkovMixRnn         projected [B, g, 3r], w1, mix_weight, previous [B], state [B, r] -> mixed, next_state [B, r]
    MarkovScoresGreedy   base_logits [B, g, V], table, index [B], w2 -> tile_max, tile_arg [B, n]
    MarkovScores         likewise, temperature [B] -> logits [B, V], tile_max, tile_arg, tile_sum [B, n]
    MarkovPickGreedy     tile_max, tile_arg -> ids [B]
    MarkovPick           logits, tile_max, tile_arg, tile_sum, temperature, uniforms [B, g] -> ids [B]

`projected` is the mix layer's part that depends on the hidden states, bias included. A step's vectors are rows of
`table`: of W1 at `index`, the previous tokens (attribute gather 1), or row b for row b of what a mix step made (0).
A greedy step leaves no [B, V] tensor behind. A position's token needs all tiles of its logits, and a plugin is one
launch without a barrier across programs: hence two nodes a step, three with a mix.
"""

from __future__ import annotations

from typing import Any

from dspark_plugins.nodes.node import FLOAT, INT, LONG, WEIGHT, Attributes, PluginNode, ceil_div, power_of_two

TILE = 64
"""Tokens a program: with a rank of 256, 64 kB of W2 in float32, held in the registers of 8 warps."""
FEW_ROWS = 8
"""Up to here rows in float32 pass one by one over the tile of W2. More rows make a matrix product, and so do two of one
half precision, which tensor cores take: on an H200, 8 rows of bfloat16 took 589 µs one by one, and 205 as a product."""
LEAST_ROWS = 16
"""Rows of a product are filled up to what a tensor core takes."""
MOST_ROWS = 128
"""Rows of one such product; more rows read W2 again."""
MIX_UNITS = 4
MIX_ROWS = 8
KERNELS = "dspark_plugins.markov_head.kernel"


def tiles(attributes: Attributes) -> int:
    """n."""
    return ceil_div(attributes["vocab"], TILE)


def _mix_node(op: str, kernel: str, recurrent: bool) -> PluginNode:
    state = {"state": FLOAT} if recurrent else {}
    next_state = {"next_state": FLOAT} if recurrent else {}
    outputs = {"mixed": FLOAT, **next_state}
    return PluginNode(
        op=op,
        kernel=f"{KERNELS}.mix:{kernel}",
        inputs={"projected": FLOAT, "w1": WEIGHT, "mix_weight": WEIGHT, "previous": LONG, **state},
        outputs=outputs,
        attributes=("block", "rank", "hidden", "step"),
        rows_of="previous",
        integers=("rows", "step"),
        shapes=lambda at, rows: dict.fromkeys(outputs, (rows, at["rank"])),
        grid=lambda at, rows, ceil, _: (ceil_div(at["rank"], MIX_UNITS), ceil(rows, MIX_ROWS), 1),
        constants=_mix_constants,
        warps=lambda _: 4,
    )


def _mix_constants(attributes: Attributes, _: int) -> dict[str, Any]:
    return {
        "BLOCK": attributes["block"],
        "RANK": attributes["rank"],
        "DEPTH": power_of_two(attributes["rank"], 32),
        "HIDDEN": attributes["hidden"],
        "TILE": MIX_UNITS,
        "ROWS": MIX_ROWS,
    }


def _scores_node(op: str, sampling: bool) -> PluginNode:
    tile_sum = {"tile_sum": FLOAT} if sampling else {}
    logits = {"logits": FLOAT} if sampling else {}
    return PluginNode(
        op=op,
        kernel=f"{KERNELS}.scores:markov_scores",
        inputs={"base_logits": FLOAT, "table": WEIGHT, "index": LONG, "w2": WEIGHT}
        | ({"temperature": FLOAT} if sampling else {}),
        outputs={**logits, "tile_max": FLOAT, "tile_arg": INT, **tile_sum},
        attributes=("vocab", "block", "rank", "step", "gather"),
        rows_of="base_logits",
        integers=("rows", "step"),
        shapes=lambda at, rows: (
            {"logits": (rows, at["vocab"])} | dict.fromkeys(("tile_max", "tile_arg", "tile_sum"), (rows, tiles(at)))
        ),
        grid=lambda at, rows, ceil, chosen: (tiles(at), 1 if chosen["ROWS"] == 1 else ceil(rows, chosen["ROWS"]), 1),
        constants=_scores_constants,
        warps=lambda chosen: 8 if chosen["FEW"] or chosen["ROWS"] == MOST_ROWS else 4,
    )


def _scores_constants(attributes: Attributes, most_rows: int) -> dict[str, Any]:
    return {
        "VOCAB": attributes["vocab"],
        "BLOCK": attributes["block"],
        "RANK": attributes["rank"],
        "DEPTH": power_of_two(attributes["rank"], 32),
        "TILE": TILE,
        "TILES": tiles(attributes),
        "ROWS": 1 if most_rows == 1 else min(power_of_two(most_rows, LEAST_ROWS), MOST_ROWS),
        "FEW": most_rows <= FEW_ROWS,
        "CHUNK": 32,
        "GATHER": bool(attributes["gather"]),
    }


def _pick_node(op: str, sampling: bool) -> PluginNode:
    tile_sum = {"tile_sum": FLOAT, "temperature": FLOAT, "uniforms": FLOAT} if sampling else {}
    return PluginNode(
        op=op,
        kernel=f"{KERNELS}.pick:markov_pick",
        inputs=({"logits": FLOAT} if sampling else {}) | {"tile_max": FLOAT, "tile_arg": INT, **tile_sum},
        outputs={"ids": LONG},
        attributes=("vocab", "block", "step") if sampling else ("vocab",),
        rows_of="tile_max",
        integers=("step",) if sampling else (),
        shapes=lambda at, rows: {"ids": (rows,)},
        grid=lambda at, rows, ceil, _: (rows, 1, 1),
        constants=_pick_constants,
        warps=lambda _: 8,
    )


def _pick_constants(attributes: Attributes, _: int) -> dict[str, Any]:
    count = tiles(attributes)
    return {
        "VOCAB": attributes["vocab"],
        "BLOCK": attributes.get("block", 0),
        "TILE": TILE,
        "TILES": count,
        "WIDTH": power_of_two(count),
    }


MIX_GATED = _mix_node("MarkovMixGated", "markov_mix_gated", recurrent=False)
MIX_RNN = _mix_node("MarkovMixRnn", "markov_mix_rnn", recurrent=True)
SCORES_GREEDY = _scores_node("MarkovScoresGreedy", sampling=False)
SCORES = _scores_node("MarkovScores", sampling=True)
PICK_GREEDY = _pick_node("MarkovPickGreedy", sampling=False)
PICK = _pick_node("MarkovPick", sampling=True)
NODES = (MIX_GATED, MIX_RNN, SCORES_GREEDY, SCORES, PICK_GREEDY, PICK)

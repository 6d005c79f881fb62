"""The steps of `dspark::Accept` as plugin nodes: what TensorRT runs in its place.

R rows, g = block, V = vocab, K packed lines, n = the number of tiles of `TILE` tokens. Types: see the nodes.

    AcceptScan          logits [K, V], draft_logits [R, g, V], verify_lengths, temperature [R]
                        -> target_max, target_arg, target_sum, draft_max, draft_sum [R, g+1, n]
    AcceptPrefix        logits, draft_ids [R, g], draft_logits, verify_lengths, temperature, uniforms [R, g+1, 2],
                        the scan's outputs -> accepted, best_ids [R], stop [R, 4]
    AcceptWeigh         logits, draft_logits, verify_lengths, temperature, accepted, stop
                        -> target_mass, residual_mass [R, n]
    AcceptDraw          these, with uniforms and best_ids -> next_ids [R]
    AcceptScanGreedy    logits, verify_lengths -> target_max, target_arg [R, g+1, n]
    AcceptPrefixGreedy  draft_ids, verify_lengths, target_max, target_arg -> accepted, best_ids [R]

A tile that holds NaN or +inf has the maximum +inf; `best_ids` is `BROKEN` where the line's maximum is not finite.
What does not exist stays unwritten: lines that are not verified, sums of greedy rows, masses of q after a full
acceptance. `stop` holds maximum and sum of p, then of q, of the line where a row stops.
"""

from __future__ import annotations

from typing import Any

from dspark_plugins.accept.contract import BROKEN, RESIDUAL_FLOOR
from dspark_plugins.nodes.node import FLOAT, INT, LONG, Attributes, PluginNode, ceil_div, power_of_two

TILE = 1024
"""Tokens a program."""
LANES = 32
"""Rows whose lengths are added up at once, to find where a row's packed lines begin."""
KERNELS = "dspark_plugins.accept.kernel"

SCANNED = {"target_max": FLOAT, "target_arg": INT, "target_sum": FLOAT, "draft_max": FLOAT, "draft_sum": FLOAT}
SCANNED_GREEDY = {"target_max": FLOAT, "target_arg": INT}
ROWS_ALIKE = {"draft_logits": FLOAT, "verify_lengths": LONG, "temperature": FLOAT}


def tiles(attributes: Attributes) -> int:
    """n."""
    return ceil_div(attributes["vocab"], TILE)


def _constants(attributes: Attributes, _: int) -> dict[str, Any]:
    count = tiles(attributes)
    return {
        "VOCAB": attributes["vocab"],
        "BLOCK": attributes["block"],
        "TILE": TILE,
        "TILES": count,
        "WIDTH": power_of_two(count),
        "LANES": LANES,
        "FLOOR": RESIDUAL_FLOOR,
        "BROKEN": BROKEN,
    }


def _shapes(attributes: Attributes, rows: Any) -> dict[str, tuple[Any, ...]]:
    lines, mass = (rows, attributes["block"] + 1, tiles(attributes)), (rows, tiles(attributes))
    return (
        dict.fromkeys(SCANNED, lines)
        | dict.fromkeys(("target_mass", "residual_mass"), mass)
        | dict.fromkeys(("accepted", "best_ids", "next_ids"), (rows,))
        | {"stop": (rows, 4)}
    )


def _node(op: str, kernel: str, inputs: dict[str, str], outputs: dict[str, str], grid: Any) -> PluginNode:
    return PluginNode(
        op=op,
        kernel=f"{KERNELS}.{kernel}",
        inputs=inputs,
        outputs=outputs,
        attributes=("vocab", "block"),
        rows_of="verify_lengths",
        integers=(),
        shapes=_shapes,
        grid=grid,
        constants=_constants,
        warps=lambda _: 4,
    )


def _every_line(attributes: Attributes, rows: Any, *_: Any) -> tuple[Any, Any, Any]:
    return tiles(attributes), attributes["block"] + 1, rows


def _every_tile(attributes: Attributes, rows: Any, *_: Any) -> tuple[Any, Any, Any]:
    return tiles(attributes), rows, 1


def _every_row(attributes: Attributes, rows: Any, *_: Any) -> tuple[Any, Any, Any]:
    return rows, 1, 1


SCAN = _node("AcceptScan", "scan:accept_scan", {"logits": FLOAT, **ROWS_ALIKE}, SCANNED, _every_line)
PREFIX = _node(
    "AcceptPrefix",
    "prefix:accept_prefix",
    {"logits": FLOAT, "draft_ids": LONG, **ROWS_ALIKE, "uniforms": FLOAT, **SCANNED},
    {"accepted": LONG, "best_ids": LONG, "stop": FLOAT},
    _every_row,
)
WEIGH = _node(
    "AcceptWeigh",
    "draw:accept_weigh",
    {"logits": FLOAT, **ROWS_ALIKE, "accepted": LONG, "stop": FLOAT},
    {"target_mass": FLOAT, "residual_mass": FLOAT},
    _every_tile,
)
DRAW = _node(
    "AcceptDraw",
    "draw:accept_draw",
    {"logits": FLOAT, **ROWS_ALIKE, "uniforms": FLOAT, "accepted": LONG, "best_ids": LONG, "stop": FLOAT}
    | {"target_mass": FLOAT, "residual_mass": FLOAT},
    {"next_ids": LONG},
    _every_row,
)
SCAN_GREEDY = _node(
    "AcceptScanGreedy", "scan:accept_scan", {"logits": FLOAT, "verify_lengths": LONG}, SCANNED_GREEDY, _every_line
)
PREFIX_GREEDY = _node(
    "AcceptPrefixGreedy",
    "prefix:accept_prefix",
    {"draft_ids": LONG, "verify_lengths": LONG, **SCANNED_GREEDY},
    {"accepted": LONG, "best_ids": LONG},
    _every_row,
)
NODES = (SCAN, PREFIX, WEIGH, DRAW, SCAN_GREEDY, PREFIX_GREEDY)
SAMPLING = (SCAN, PREFIX, WEIGH, DRAW)
GREEDY = (SCAN_GREEDY, PREFIX_GREEDY)

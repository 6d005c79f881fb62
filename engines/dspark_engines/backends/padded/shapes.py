"""Which steps engines are built for: rows, packed tokens and cells a row, each a fixed shape.

A *narrow* step serves any number of rows that bring at most a block and its anchor (verify), or as many
features (draft). A *wide* step serves one row with up to a prefill chunk. What a step holds is filled up
to its shape with tokens that nobody reads, so that every shape has one captured graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dspark_engines.bundle import Limits, Role
from dspark_engines.errors import BackendError

CAPACITY_MULTIPLE = 64  # cells; keeps every row's cache aligned


@dataclass(frozen=True, order=True)
class StepShape:
    """One shape of step: `rows` R, `tokens` N (or features M), `width` packed tokens that one row may bring.

    A `wide` one serves one long row, whose logits may be asked of one token only.
    """

    rows: int
    tokens: int
    width: int
    wide: bool = False


@dataclass(frozen=True)
class RoleShapes:
    """All shapes of one engine, and the capacity of its caches. `block` is what a draft step adds to every row.

    An accept engine has no wide steps.
    """

    narrow: tuple[StepShape, ...]
    wide: tuple[StepShape, ...]
    capacity: int
    block: int

    @property
    def profiles(self) -> list[tuple[StepShape, ...]]:
        """Shapes that share an optimization profile, smallest first: one a number of rows, then the wide ones."""
        rows = sorted({shape.rows for shape in self.narrow})
        groups = [*(tuple(sorted(s for s in self.narrow if s.rows == count)) for count in rows), self.wide]
        return [group for group in groups if group]

    def fit(self, rows: int, tokens: int) -> StepShape:
        """The smallest narrow shape with room for rows 0 .. rows-1 and that many tokens in all.

        Raises `BackendError` when none is large enough.
        """
        fitting = [shape for shape in self.narrow if shape.rows >= rows and shape.tokens >= tokens]
        if not fitting:
            raise BackendError(
                f"{rows} rows with {tokens} tokens in one step, the engines were built for {max(self.narrow)}",
                hint="build the bundle with more --slots",
            )
        return min(fitting)

    def fit_wide(self, tokens: int) -> StepShape:
        """The smallest shape for one row of that many tokens; there always is one up to the prefill chunk."""
        return min(shape for shape in self.wide if shape.tokens >= tokens)


def role_shapes(
    role: Role, limits: Limits, block_size: int, token_buckets: Sequence[int] = (), *, block_width: int = 0
) -> RoleShapes:
    """What is built for one engine of a bundle that drafts `block_size` tokens a round.

    `block_width`: the positions that the drafter runs over for them; 0 says as many. `token_buckets` replaces the
    powers of two as the sizes of narrow steps, in tokens of all rows together.
    Raises `BackendError` when they do not cover what the limits allow.
    """
    width, block = block_size + 1, (block_width or block_size) if role == "draft" else 0
    narrow = [
        StepShape(rows, tokens, width)
        for rows in powers_up_to(limits.slots)
        for tokens in _buckets(rows, rows * width, token_buckets)
    ]
    _check_covered(limits.slots * width, token_buckets)
    if role == "accept":  # a row of a wide step has its one line of logits: the smallest narrow one
        return RoleShapes(tuple(narrow), (), 0, 0)
    chunks = [tokens for tokens in powers_up_to(limits.prefill_chunk) if tokens > width] or [2 * width]
    wide = [StepShape(1, tokens, tokens, wide=True) for tokens in chunks]
    room = limits.context_length + block_size + max(shape.width for shape in wide) + block
    return RoleShapes(tuple(narrow), tuple(wide), -(-room // CAPACITY_MULTIPLE) * CAPACITY_MULTIPLE, block)


def input_shape(
    shapes: RoleShapes, step: StepShape, name: str, model: Sequence[int], logit_rows: int
) -> tuple[int, ...]:
    """Shape of input `name`, a cache or another, in a step; `model` is its shape in the network, dynamic axes -1."""
    rows, blocks = step.rows, step.rows * shapes.block
    known: dict[str, tuple[int, ...]] = {
        "pad_rows": (rows, step.width + shapes.block),
        "positions": (step.tokens + blocks,),
        "block_positions": (blocks,),
        "logit_rows": (logit_rows,),
        "logits": (lines(step), *model[1:]),
    }
    packed = {"token_ids", "unpad", "features"}
    return known.get(name, (step.tokens if name in packed else rows, *model[1:]))


def lines(step: StepShape) -> int:
    """Lines of logits that accepting may look at: one for every token, and one for every row not served."""
    return step.tokens + step.rows


def powers_up_to(limit: int) -> list[int]:
    """1, 2, 4 … and `limit` itself."""
    return sorted({min(1 << power, limit) for power in range(limit.bit_length() + 1)})


def _buckets(low: int, high: int, wanted: Sequence[int]) -> list[int]:
    """Bucket sizes that steps of `low` to `high` tokens use; the last one holds `high`."""
    sizes = sorted(set(wanted) or set(powers_up_to(high)))
    return [size for size in sizes if low <= size < high] + [high]


def _check_covered(needed: int, wanted: Sequence[int]) -> None:
    if wanted and max(wanted) < needed:
        raise BackendError(
            f"the token buckets end at {max(wanted)}, but a full step has {needed} tokens (slots x (block size + 1))",
            hint=f"add {needed} to token_buckets, or build with fewer --slots",
        )

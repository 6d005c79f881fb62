"""What has to agree before weights are looked at: control tokens with the vocabulary, a drafter with its target."""

from __future__ import annotations

from pathlib import Path

from dspark_engines.errors import CheckpointError
from dspark_export.checkpoints.spec import DrafterSpec, TargetSpec


def check_control_tokens(path: Path, spec: TargetSpec) -> None:
    """Raises `CheckpointError` for ids of begin and end that the vocabulary does not hold."""
    named = [("eos", token_id) for token_id in spec.eos_token_ids]
    named.append(("bos", spec.bos_token_id or 0))
    for name, token_id in named:
        if token_id >= spec.vocab_size:
            raise CheckpointError(
                f"{path}: {name}_token_id {token_id} lies outside the vocabulary of {spec.vocab_size}",
                hint="correct the token id; generation would never end where it should",
            )


def check_pair(path: Path, drafter: DrafterSpec, target: TargetSpec) -> None:
    """Raises `CheckpointError` where the sizes of the drafter at `path` are not its target's, or its mask token is none
    of the target's."""
    for what, mine, theirs in (
        ("hidden_size", drafter.shape.hidden_size, target.shape.hidden_size),
        ("vocab_size", drafter.vocab_size, target.vocab_size),
        ("num_target_layers", drafter.num_target_layers, target.shape.num_layers),
    ):
        if mine != theirs:
            raise CheckpointError(
                f"{path}: drafter has {what} {mine}, the target has {theirs}",
                hint="this drafter was trained for another target",
            )
    _check_taps(path, drafter, target.shape.num_layers)
    if not 0 <= drafter.mask_token_id < target.vocab_size:
        raise CheckpointError(
            f"{path}: mask_token_id {drafter.mask_token_id} lies outside the vocabulary of {target.vocab_size}",
            hint="this drafter was trained for another target",
        )


def _check_taps(path: Path, drafter: DrafterSpec, depth: int) -> None:
    """Raises `CheckpointError` for taps that are no outputs of layers below the last. An MTP head reads the state
    behind the final norm, and nothing else does."""
    behind_norm = (depth,) if drafter.chain is not None and drafter.chain.kind == "mtp" else ()
    wrong = [tap for tap in drafter.target_layer_ids if not -1 <= tap < depth - 1 and tap not in behind_norm]
    if wrong:
        raise CheckpointError(
            f"{path}: taps the target at {wrong[0]}, which has {depth} layers and whose last cannot be tapped",
            hint="this drafter was trained for another target",
        )

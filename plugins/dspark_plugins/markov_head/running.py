"""`dspark::MarkovHead` by its kernels, launched from Python: what tests and benchmarks do where TensorRT would.

Tensors are torch's, though nothing here imports torch: they are indexed, multiplied and passed on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dspark_plugins.markov_head import steps
from dspark_plugins.markov_head.contract import MarkovHeadSpec
from dspark_plugins.nodes.launching import Allocate, launch


class MarkovChain:
    """The steps of one block. `tensors` holds the op's inputs by their contract names; weights may be half precision.

    Raises `ValueError` for the kind "none", whose block has no steps.
    """

    def __init__(self, spec: MarkovHeadSpec, tensors: Mapping[str, Any], allocate: Allocate, sampling: bool) -> None:
        if spec.kind == "none":
            raise ValueError("a head of kind 'none' has no sequential steps")
        self.spec, self.tensors, self.allocate, self.sampling = spec, tensors, allocate, sampling
        self.attributes = {
            "vocab": int(tensors["base_logits"].shape[2]),
            "block": spec.block_size,
            "rank": spec.rank,
            "hidden": spec.hidden_size,
            "gather": int(spec.kind == "vanilla"),
        }

    def run(self) -> dict[str, list[Any]]:
        """ids, logits (when sampling) and previous: a tensor [B], [B, V] and [B] for each position."""
        previous, state, projected = self.tensors["anchor_ids"], None, self._projected()
        if self.spec.kind == "rnn":
            state = self.tensors["w1"][previous].float() * 0
        drafted: dict[str, list[Any]] = {"ids": [], "logits": [], "previous": []}
        for step in range(self.spec.block_size):
            drafted["previous"].append(previous)
            mixed = self._mix(projected, previous, state, step)
            state = mixed.get("next_state")
            scores = self._scores(mixed.get("mixed"), previous, step)
            node = steps.PICK if self.sampling else steps.PICK_GREEDY
            previous = self._launch(node, {**self.tensors, **scores}, step)["ids"]
            drafted["ids"].append(previous)
            drafted["logits"].append(scores.get("logits"))
        return drafted

    def _projected(self) -> Any:
        """[B, g, r or 3r]: the part of the mix layer that the hidden states decide."""
        if self.spec.kind == "vanilla":
            return None
        start = 2 * self.spec.rank if self.spec.kind == "rnn" else 0
        weight = self.tensors["mix_weight"][:, start : start + self.spec.hidden_size].float()
        return self.tensors["hidden"] @ weight.T + self.tensors["mix_bias"]

    def _mix(self, projected: Any, previous: Any, state: Any, step: int) -> dict[str, Any]:
        if self.spec.kind == "vanilla":
            return {}
        node = steps.MIX_RNN if self.spec.kind == "rnn" else steps.MIX_GATED
        return self._launch(node, {**self.tensors, "projected": projected, "previous": previous, "state": state}, step)

    def _scores(self, mixed: Any, previous: Any, step: int) -> dict[str, Any]:
        node = steps.SCORES if self.sampling else steps.SCORES_GREEDY
        table = self.tensors["w1"] if mixed is None else mixed
        return self._launch(node, {**self.tensors, "table": table, "index": previous}, step)

    def _launch(self, node: Any, tensors: Mapping[str, Any], step: int) -> dict[str, Any]:
        return launch(node, tensors, {**self.attributes, "step": step}, self.allocate)


def confidence(spec: MarkovHeadSpec, tensors: Mapping[str, Any], previous: Any) -> Any:
    """c [B, g] from the tokens before each position [B, g]: a plain linear layer, which needs no kernel of ours."""
    weight = tensors["confidence_weight"][0]
    score = tensors["hidden"] @ weight[: spec.hidden_size] + tensors["confidence_bias"]
    if spec.confidence_with_markov:
        score = score + tensors["w1"][previous].float() @ weight[spec.hidden_size :]
    return score

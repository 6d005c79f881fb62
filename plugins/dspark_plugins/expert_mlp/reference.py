"""NumPy oracle of `dspark::ExpertMlp`: one token and one expert at a time."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from dspark_plugins.arrays import Ints
from dspark_plugins.expert_mlp.contract import ExpertMlpSpec

Array = npt.NDArray[np.float32]


def expert_mlp(spec: ExpertMlpSpec, x: Array, shares: Array, chosen: Ints, *weights: Array) -> Array:
    """As the contract says; `weights` are gate_up, down and, where there are biases, theirs."""
    gate_up, down, *biases = weights
    y = np.zeros_like(x)
    for n, experts in enumerate(chosen):
        for j, e in enumerate(experts):
            both = gate_up[e] @ x[n] + (biases[0][e] if biases else 0)
            gate, up = np.split(both, 2)
            if spec.limit:
                gate, up = np.minimum(gate, spec.limit), np.clip(up, -spec.limit, spec.limit)
            inner = _bend(spec, gate) * (up + spec.up_offset)
            y[n] += shares[n, j] * (down[e] @ inner + (biases[1][e] if biases else 0))
    return y


def _bend(spec: ExpertMlpSpec, gate: Array) -> Array:
    bent: Array = gate / (1 + np.exp(-spec.alpha * gate))
    if spec.activation == "gelu_tanh":
        bent = gate * (1 + np.tanh(math.sqrt(2 / math.pi) * (gate + 0.044715 * gate**3))) / 2
    return bent

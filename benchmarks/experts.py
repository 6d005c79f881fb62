"""A layer's experts on the CPU: the loop over those that were chosen beside the body that runs them all.

    python benchmarks/experts.py [--experts 128] [--chosen 8] [--hidden 2048] [--inner 768] [--tokens 1 --tokens 6 …]

The sizes of Qwen3-30B-A3B unless given; random weights and choices. Both forms take turns on the same weights. Prints
the median milliseconds of a step, their ratio, and how many experts a step needed. Here the weights come from outside,
so the body turns them at every step, which in a graph that holds them is done once.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import numpy as np
import onnx
import onnx_ir as ir
from rich.table import Table

from dspark_engines.backends.onnxruntime.compile import compile_graph
from dspark_engines.backends.onnxruntime.loader import onnxruntime
from dspark_engines.backends.onnxruntime.settings import session_settings
from dspark_export.commands.console import table_console
from dspark_export.graphs.writer import GraphWriter
from dspark_plugins.expert_mlp import ExpertMlpSpec
from dspark_plugins.expert_mlp.function import expert_mlp_function
from exit_code import exit_code

SPEC = ExpertMlpSpec()
Values = dict[str, onnxruntime.OrtValue]


@click.command(context_settings={"show_default": True})
@click.option("--experts", default=128, help="Experts of the layer.")
@click.option("--chosen", default=8, help="Experts a token.")
@click.option("--hidden", default=2048, help="Width of the states.")
@click.option("--inner", default=768, help="Width of an expert.")
@click.option("--tokens", "steps", multiple=True, default=(1, 6, 64), help="Tokens of a step; may be repeated.")
@click.option("--turns", default=5, help="Steps of each form.")
@click.option("--threads", default=0, help="0: all cores.")
def command(
    experts: int, chosen: int, hidden: int, inner: int, steps: tuple[int, ...], turns: int, threads: int
) -> None:
    """Time both forms."""
    random = np.random.default_rng(0)
    stacks = {"gate_up": (experts, 2 * inner, hidden), "down": (experts, hidden, inner)}
    weights = {name: _value(random.random(shape, np.float32) - 0.5) for name, shape in stacks.items()}
    forms = _forms(stacks, hidden, chosen, threads)
    table = Table("tokens", "experts needed", "loop, ms", "all experts, ms", "all ÷ loop")
    for tokens in steps:
        picks = np.array([random.permutation(experts)[:chosen] for _ in range(tokens)])
        shares = np.full(picks.shape, 1 / chosen, np.float32)
        feeds = {"x": _value(random.random((tokens, hidden), np.float32)), "shares": _value(shares)}
        feeds["chosen"] = _value(picks)
        loop, dense = (statistics.median(times) for times in _take_turns(forms, feeds | weights, turns))
        row = (f"{loop:.1f}", f"{dense:.1f}", f"{dense / loop:.1f}")
        table.add_row(str(tokens), str(len(np.unique(picks))), *row)
    table_console().print(table)


def _value(array: np.ndarray) -> onnxruntime.OrtValue:
    return onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array))


def _forms(
    stacks: Mapping[str, tuple[int, ...]], hidden: int, chosen: int, threads: int
) -> list[onnxruntime.InferenceSession]:
    """The lowered form and the body, weights fed from outside."""
    w = GraphWriter("experts")
    shapes: dict[str, list[int | str]] = {"x": ["N", hidden], "shares": ["N", chosen], "chosen": ["N", chosen]}
    shapes |= {name: [*shape] for name, shape in stacks.items()}
    kinds = {"chosen": ir.DataType.INT64}
    inputs = [w.input(name, shape, kinds.get(name, ir.DataType.FLOAT)) for name, shape in shapes.items()]
    for name in ("row_lengths", "used"):  # what a lowering asks of any graph
        w.input(name, ["R"], ir.DataType.INT64)
    y = w.op.call(expert_mlp_function(SPEC), *inputs, _outputs=["experts"], **SPEC.attributes())
    w.output(w.op.Identity(y), "y", ["N", hidden])
    with TemporaryDirectory() as folder:
        source, lowered = Path(folder) / "op.onnx", Path(folder) / "lowered.onnx"
        onnx.save(ir.to_proto(w.model()), source)
        compile_graph(source, lowered, slots=1)
        settings = session_settings(threads, precise=False)
        providers = ["CPUExecutionProvider"]
        return [onnxruntime.InferenceSession(str(path), settings, providers=providers) for path in (lowered, source)]


def _take_turns(forms: list[onnxruntime.InferenceSession], feeds: Values, turns: int) -> list[list[float]]:
    """Milliseconds of every form; a first turn does not count."""
    times: list[list[float]] = [[] for _ in forms]
    row = _value(np.ones(1, np.int64))
    for turn in range(turns + 1):
        for form, kept in zip(forms, times, strict=True):
            asked = {value.name: feeds.get(value.name, row) for value in form.get_inputs()}
            started = time.perf_counter()
            form.run_with_ort_values(["y"], asked)
            kept += [1000 * (time.perf_counter() - started)] if turn else []
    return times


def run(arguments: Sequence[str] | None = None) -> int:
    """The exit code; a user's errors become a line and a hint."""
    return exit_code(command, arguments)


if __name__ == "__main__":
    sys.exit(run())

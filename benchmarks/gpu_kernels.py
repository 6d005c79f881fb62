"""Microseconds of our kernels on this machine's GPU, against torch and against what reading the bytes takes.

    python benchmarks/gpu_kernels.py [--rows 1 --rows 8 …] [--weights bf16] [--json]

The Markov head of a block, and accepting one: captured as CUDA graphs, replayed, the median of the replays.
Every graph goes over so many different inputs that they do not fit in the L2 cache. `torch` is the same in plain torch
(see torch_baselines.py), `compiled` that through torch.compile; both captured too. `floor` is the bytes that must be
read (W2 once a step; every line of logits once) over the bandwidth that a large copy reaches here. Before anything is
timed, our tokens are compared with torch's: `differ` counts rows that part, which ties and roundings explain or not.

Needs an NVIDIA GPU, torch with CUDA and triton. See docs/kernels.md for machines without a network.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Callable
from typing import Any

import click
from rich.console import Console
from rich.progress import track
from rich.table import Table

from dspark_plugins.markov_head import MarkovHeadSpec

ROWS = (1, 2, 4, 8, 16, 32, 64, 128)
REPLAYS, WARM_UP = 30, 5
COPIED = 2**31  # bytes
Line = dict[str, Any]


@click.command(context_settings={"show_default": True})
@click.option("--rows", multiple=True, type=click.IntRange(1), default=ROWS, help="B, rows of a batch.")
@click.option("--weights", type=click.Choice(["fp32", "bf16"]), default="bf16", help="Type of W1 and W2.")
@click.option("--vocab", default=151936, type=click.IntRange(1), help="V, tokens.")
@click.option("--rank", default=256, type=click.IntRange(1), help="r, of the Markov head.")
@click.option("--block", default=7, type=click.IntRange(1), help="Draft positions.")
@click.option("--compile/--no-compile", "with_compiled", default=True, help="Also time torch.compile's version.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
def main(rows: tuple[int, ...], weights: str, as_json: bool, with_compiled: bool, **sizes: int) -> None:
    """Time the kernels."""
    require_gpu()
    bench = Bench(weights, with_compiled, **sizes)
    work = [(kind, count) for kind in ("draft, greedy", "draft, sampling", "accept") for count in rows]
    shown = track(work, "timing", console=Console(stderr=True))
    lines = [line for kind, count in shown if (line := bench.line_that_fits(kind, count))]
    if not lines:
        fail("nothing fits into this GPU's memory", "pass smaller --rows, or a smaller --vocab")
    header = {"gpu": bench.name, "copy_gb_per_s": round(bench.bandwidth / 1e9), "weights": weights, **sizes}
    if as_json:
        click.echo(json.dumps({**header, "lines": lines}))
        return
    table = Table(*lines[0], title=", ".join(f"{name} {value}" for name, value in header.items()))
    for line in lines:
        table.add_row(*(f"{value:.1f}" if isinstance(value, float) else str(value) for value in line.values()))
    Console(width=None if sys.stdout.isatty() else 120).print(table)


def require_gpu() -> None:
    """Leave with 2 and a line that says what is missing."""
    try:
        import torch
        import triton  # noqa: F401
    except ImportError as error:
        fail(f"{error.name} is not installed", "pip install 'dspark-export[kernels,parity]'")
    if not torch.cuda.is_available():
        fail("torch sees no NVIDIA GPU", "run this where `nvidia-smi` shows one, with a CUDA build of torch")


def fail(fact: str, hint: str) -> None:
    """One line each, exit code 2."""
    click.echo(f"error: {fact}\nhint: {hint}", err=True)
    sys.exit(2)


class Bench:
    """Inputs, contestants and clock for one set of sizes."""

    def __init__(self, weights: str, with_compiled: bool, vocab: int, rank: int, block: int) -> None:
        import torch

        self.torch, self.with_compiled = torch, with_compiled
        self.vocab, self.rank, self.block = vocab, rank, block
        self.types = {"fp32": torch.float32, "bf16": torch.bfloat16, "i32": torch.int32, "i64": torch.int64}
        self.weights = self.types[weights]
        properties = torch.cuda.get_device_properties(0)
        self.name, self.cache = properties.name, int(properties.L2_cache_size)
        self.bandwidth = self.copy_bandwidth()
        self.random = torch.Generator("cuda").manual_seed(0)
        self.w1, self.w2 = (self.normal(vocab, rank).to(self.weights) for _ in range(2))

    def copy_bandwidth(self) -> float:
        """Bytes read and written a second, by a copy that is far larger than the cache."""
        one, other = (self.torch.ones(COPIED // 4, device="cuda") for _ in range(2))
        return 2 * COPIED / (self.microseconds(lambda: other.copy_(one), 1) / 1e6)

    def line_that_fits(self, kind: str, rows: int) -> Line | None:
        """The line, or None and a word about it where memory is too small."""
        try:
            return self.line(kind, rows)
        except self.torch.OutOfMemoryError:
            click.echo(f"left out, too little memory: {kind}, {rows} rows", err=True)
        self.torch.cuda.empty_cache()
        return None

    def line(self, kind: str, rows: int) -> Line:
        """One row of the table; times in microseconds."""
        if kind == "accept":
            inputs, ours, theirs, read = self.acceptance(rows)
        else:
            inputs, ours, theirs, read = self.drafting(rows, sampling=kind.endswith("sampling"))
        differ = sum(int((ours(each) != theirs(each)).flatten(1).any(1).sum()) for each in inputs)
        times = {"ours": self.timed(ours, inputs), "torch": self.timed(theirs, inputs)}
        if self.with_compiled:
            from torch_baselines import compiled

            times["compiled"] = self.timed(compiled(theirs), inputs)
        floor = read / self.bandwidth * 1e6
        share = {"ours / floor": round(times["ours"] / floor, 2)}
        return {"op": kind, "rows": rows, **times, "floor": round(floor, 1), **share, "differ": differ}

    def drafting(self, rows: int, sampling: bool) -> tuple[list[Any], Any, Any, int]:
        """(inputs, our function, torch's, bytes that must be read for one of the inputs)."""
        from dspark_plugins.markov_head.running import MarkovChain
        from torch_baselines import draft

        spec = MarkovHeadSpec("vanilla", self.block, self.rank, 1, confidence=False, confidence_with_markov=False)
        stack = self.torch.stack

        def ours(inputs: Any) -> Any:
            return stack(MarkovChain(spec, inputs, self.empty, sampling).run()["ids"], 1)

        read = self.block * (self.w2.nbytes + 4 * rows * self.vocab)
        return self.sets(read, lambda: self.draft_inputs(rows, sampling)), ours, lambda i: draft(i, sampling)[0], read

    def acceptance(self, rows: int) -> tuple[list[Any], Any, Any, int]:
        """Likewise; half of the rows sample."""
        from dspark_plugins.accept.running import run_steps
        from torch_baselines import accept

        def ours(inputs: Any) -> Any:
            return self.torch.stack(run_steps(inputs, self.empty, sampling=True), 1)

        read = 4 * rows * self.vocab * (2 * self.block + 1)
        inputs = self.sets(read, lambda: self.verify_inputs(rows))
        return inputs, ours, lambda each: self.torch.stack(accept(each), 1), read

    def draft_inputs(self, rows: int, sampling: bool) -> dict[str, Any]:
        heat = 1.0 if sampling else 0.0
        return {
            "base_logits": 3 * self.normal(rows, self.block, self.vocab),
            "anchor_ids": self.torch.randint(self.vocab, (rows,), generator=self.random, device="cuda"),
            "temperature": self.torch.full((rows,), heat, device="cuda"),
            "uniforms": self.uniform(rows, self.block),
            **{"w1": self.w1, "w2": self.w2},
        }

    def verify_inputs(self, rows: int) -> dict[str, Any]:
        drafts, torch = 3 * self.normal(rows, self.block, self.vocab), self.torch
        lines = 3 * self.normal(rows, self.block + 1, self.vocab)
        lines[:, : self.block] = drafts + 0.1 * lines[:, : self.block]
        return {
            "logits": lines.view(-1, self.vocab),
            "draft_ids": drafts.argmax(-1),
            "draft_logits": drafts,
            "verify_lengths": torch.full((rows,), self.block, dtype=torch.int64, device="cuda"),
            "temperature": (torch.arange(rows, device="cuda") % 2 == 0).float(),
            "uniforms": self.uniform(rows, self.block + 1, 2),
        }

    def sets(self, size: int, make: Callable[[], Any]) -> list[Any]:
        """So many inputs of `size` bytes that the cache does not hold them."""
        return [make() for _ in range(max(1, -(-2 * self.cache // size)))]

    def timed(self, function: Callable[[Any], Any], inputs: list[Any]) -> float:
        """Microseconds of one call, captured."""
        torch = self.torch
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_UP):
                for each in inputs:
                    function(each)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            for each in inputs:
                function(each)
        return self.microseconds(graph.replay, len(inputs))

    def microseconds(self, call: Callable[[], Any], count: int) -> float:
        """The median time of `call`, by device events, over the `count` things that it does."""
        times = []
        for repeat in range(WARM_UP + REPLAYS):
            start, end = self.event(), self.event()
            start.record()
            call()
            end.record()
            end.synchronize()
            if repeat >= WARM_UP:
                times.append(start.elapsed_time(end))
        return round(1e3 * float(statistics.median(times)) / count, 1)

    def event(self) -> Any:
        return self.torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]

    def empty(self, shape: tuple[int, ...], kind: str) -> Any:
        return self.torch.empty(shape, dtype=self.types[kind], device="cuda")

    def normal(self, *shape: int) -> Any:
        return self.torch.randn(*shape, generator=self.random, device="cuda")

    def uniform(self, *shape: int) -> Any:
        return self.torch.rand(*shape, generator=self.random, device="cuda")


if __name__ == "__main__":
    main()

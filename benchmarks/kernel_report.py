"""What the kernels take of each GPU architecture: registers, spills, shared memory, code size. Needs triton, no GPU.

    python benchmarks/kernel_report.py [--architecture 90] [--vocab 151936] [--rank 256] [--json]

Compiles every kernel that the TensorRT plugins carry, for a drafter of the given sizes, as the plugins do, and asks
the assembler. Exits with 1 when a kernel spills registers, or wants more shared memory than any launch may have.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import click
from rich.console import Console
from rich.progress import track
from rich.table import Table

from dspark_plugins.accept import steps as accept
from dspark_plugins.markov_head import steps as markov
from dspark_plugins.nodes import PluginNode
from dspark_plugins.nodes.compiling import assemble, compile_node
from dspark_plugins.nodes.node import WEIGHT

ARCHITECTURES = (80, 90, 100, 120)
NODES = (*markov.NODES, *accept.NODES)
SHARED_LIMIT = 48 * 1024
"""Bytes; a launch gets more only after asking the driver, which TensorRT does not do for plugins."""


@dataclass(frozen=True)
class Variant:
    """One kernel as an engine would carry it: for so many rows at most, weights of this type."""

    node: PluginNode
    most_rows: int
    weights: str


@dataclass(frozen=True)
class Measured:
    """One line of the report. Sizes in bytes; registers and spills are of a thread."""

    kernel: str
    rows: str
    weights: str
    architecture: int
    registers: int
    spilled: int
    shared: int
    threads: int
    ptx: int
    cubin: int
    hidden_parameters: int

    @property
    def fits(self) -> bool:
        """Whether nothing is spilled and any launch has the shared memory."""
        return self.spilled == 0 and self.shared <= SHARED_LIMIT


@click.command(context_settings={"show_default": True})
@click.option("--architecture", "architectures", multiple=True, type=int, default=ARCHITECTURES, help="90 for sm_90.")
@click.option("--vocab", default=151936, type=click.IntRange(1), help="V, tokens.")
@click.option("--rank", default=256, type=click.IntRange(1), help="r, of the Markov head.")
@click.option("--hidden", default=2560, type=click.IntRange(1), help="H, of the drafter.")
@click.option("--block", default=7, type=click.IntRange(1), help="Draft positions.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
def main(architectures: tuple[int, ...], as_json: bool, **sizes: int) -> None:
    """Compile all kernels and say what they take."""
    work = [(variant, architecture) for variant in variants() for architecture in architectures]
    bar = track(work, "compiling", console=Console(stderr=True))
    lines = [measure(variant, architecture, sizes) for variant, architecture in bar]
    if as_json:
        click.echo(json.dumps({"sizes": sizes, "kernels": [asdict(line) for line in lines]}))
    else:
        show(lines, sizes)
    if not all(line.fits for line in lines):
        sys.exit(1)


def variants() -> Iterator[Variant]:
    """Every kernel; those with weights in float32 and bfloat16, the scores for few rows and for many."""
    for node in NODES:
        scores = node in (markov.SCORES, markov.SCORES_GREEDY)
        for most_rows in (markov.FEW_ROWS, markov.MOST_ROWS // 2, markov.MOST_ROWS) if scores else (1,):
            for weights in ("fp32", "bf16") if WEIGHT in node.inputs.values() else ("fp32",):
                yield Variant(node, most_rows, weights)


def measure(variant: Variant, architecture: int, sizes: dict[str, int]) -> Measured:
    """Compile and assemble one kernel; `sizes` has vocab, rank, hidden and block."""
    node, has_weights = variant.node, WEIGHT in variant.node.inputs.values()
    types = {name: variant.weights for name, kind in node.inputs.items() if kind == WEIGHT}
    kernel = compile_node(node, {**sizes, "step": 0, "gather": 1}, architecture, variant.most_rows, types)
    resources = assemble(kernel)
    return Measured(
        kernel=node.op,
        rows=f"≤ {variant.most_rows}" if variant.most_rows > 1 else "any",
        weights=variant.weights if has_weights else "-",
        architecture=architecture,
        registers=resources.registers,
        spilled=resources.spilled,
        shared=resources.shared,
        threads=kernel.threads,
        ptx=len(kernel.ptx),
        cubin=len(resources.cubin),
        hidden_parameters=kernel.hidden,
    )


def show(lines: list[Measured], sizes: dict[str, int]) -> None:
    """Print the table."""
    columns = ["kernel", "rows", "weights", "sm", "registers", "spilled", "shared", "threads", "PTX kB", "cubin kB"]
    title = ", ".join(f"{name} {size}" for name, size in sizes.items())
    table = Table(*columns, title=f"kernels for {title}; spilled and shared in bytes")
    for line in lines:
        numbers = (line.architecture, line.registers, line.spilled, line.shared, line.threads)
        sizes_kb = (f"{line.ptx / 1000:.0f}", f"{line.cubin / 1000:.0f}")
        table.add_row(line.kernel, line.rows, line.weights, *map(str, numbers), *sizes_kb)
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(table)
    worst = max(lines, key=lambda line: line.registers)
    hidden = sorted({line.hidden_parameters for line in lines})
    console.print(
        f"{len(lines)} kernels; spilled: {sum(line.spilled for line in lines)} bytes in all; at most "
        f"{worst.registers} registers ({worst.kernel}, sm_{worst.architecture}) and "
        f"{max(line.shared for line in lines)} bytes of shared memory; hidden Triton parameters taken out of each: "
        f"{', '.join(map(str, hidden))}"
    )


if __name__ == "__main__":
    main()

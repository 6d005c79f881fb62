"""`dspark-export check --precision-report`: what int8 costs against float32."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from dspark_engines import Bundle
from dspark_engines.backends import EngineOptions
from dspark_export.checks.origin import check_hashes, find_origin
from dspark_export.checks.tolerances import LARGEST_KL, LEAST_TOP1
from dspark_export.commands.console import print_json, reporting, table_console

if TYPE_CHECKING:
    from dspark_export.checks.precision.divergence import Divergence
    from dspark_export.checks.precision.layer_errors import LayerError
    from dspark_export.checks.precision.report import PrecisionReport

FAILED = 1


def run(
    bundle: Bundle,
    texts: Sequence[Sequence[int]],
    origin: tuple[Path | None, Path | None],
    max_new_tokens: int,
    engines: tuple[str, EngineOptions],
    as_json: bool,
) -> int:
    """Measure, print, and say whether the limits hold: the exit code. `origin` is --target and --drafter."""
    from dspark_export.checks.precision.report import PrecisionPlan, precision_report

    with reporting() as reporter:
        check_hashes(bundle, reporter.step("hashes"))
        reporter.step("hashes of the checkpoints")
        target, drafter = find_origin(bundle, *origin)
        plan = PrecisionPlan(texts, max_new_tokens, *engines)
        report = precision_report(bundle, target, drafter, plan, reporter)
    if as_json:
        print_json({"reference": {"target": str(target), "drafter": str(drafter)}} | report.as_json())
    else:
        _show(report, table_console())
    return 0 if report.passed else FAILED


def _show(report: PrecisionReport, console: Console) -> None:
    console.print(_layers([layer for layers in report.layers.values() for layer in layers]))
    table = Table("", "float32", "int8", title="end to end")
    for row in _end_to_end(report.divergence, report.accepted_length):
        table.add_row(*row)
    console.print(table)
    for line in _verdict(report):
        console.print(line, soft_wrap=True)


def _layers(layers: Sequence[LayerError]) -> Table:
    columns = ("terms", "smoothed", "input energy lost", "error of the output", "share of the graph's damage")
    table = Table("layer", *columns, title="layer by layer, on random tokens, against float32")
    totals = {graph: sum(each.damage for each in layers if _graph(each) == graph) for graph in map(_graph, layers)}
    for each in layers:
        if not each.terms:
            table.add_row(each.layer, "float32")
            continue
        share = each.damage / totals[_graph(each)] if totals[_graph(each)] else 0.0
        figures = (f"{each.input_lost:.1e}", f"{each.output_error:.2%}", f"{share:.1%}")
        table.add_row(each.layer, str(each.terms), "yes" if each.smoothed else "", *figures)
    return table


def _graph(layer: LayerError) -> str:
    return layer.layer.partition(".")[0]


def _end_to_end(d: Divergence, accepted: dict[str, float]) -> Iterator[tuple[str, str, str]]:
    yield "tokens compared", str(d.tokens), str(d.tokens)
    yield "KL(float32 ‖ int8), nats a token", "", f"{d.kl:.5f} (99%: {d.kl_99:.4f}, largest {d.kl_max:.3f})"
    yield "the same most likely token", "", f"{d.top1:.2%}"
    yield "perplexity of the texts", f"{d.perplexity_reference:.3f}", f"{d.perplexity:.3f}"
    mixed = f"{accepted['int8']:.3f} ({accepted['int8_target_fp32_drafter']:.3f} with the float32 drafter)"
    yield "accepted length", f"{accepted['fp32']:.3f}", mixed


def _verdict(report: PrecisionReport) -> Iterator[str]:
    limits = f"KL {report.divergence.kl:.4f} of at most {LARGEST_KL}, top-1 {report.divergence.top1:.1%} of at least "
    limits += f"{LEAST_TOP1:.0%}"
    if report.passed:
        yield f"int8 holds: {limits}"
        return
    yield f"int8 does NOT hold: {limits}"
    yield (
        "layers to keep in float32, worst first, by the energy of their error relative to the stream that it goes "
        "into (an estimate from layers taken alone: build with the first few, then report again):"
    )
    for layer, share in report.keep_fp32:
        yield f"  --keep-fp32 {layer}  ({share:.0%})"

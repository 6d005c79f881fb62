"""What a bundle's precision costs against float32, layer by layer and end to end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from dspark_engines import Bundle, open_bundle
from dspark_engines.backends import EngineOptions, Engines, get_backend
from dspark_engines.backends.exported import reads_text
from dspark_engines.bundle.vocabulary import given_vocabulary
from dspark_engines.errors import DsparkError
from dspark_engines.progress import Reporter
from dspark_export.bundling import BuildPlan, build_bundle
from dspark_export.checks.precision.divergence import CHUNK, Divergence, measure_acceptance, measure_divergence
from dspark_export.checks.precision.layer_errors import GraphName, LayerError, layer_errors
from dspark_export.checks.tolerances import LARGEST_KL, LEAST_TOP1

GENERATIONS = 8
"""Prompts that are also generated from; the first ones."""

NAMED = 0.8
"""Layers are named to be kept in float32 until they make up so much of the damage."""


@dataclass(frozen=True)
class PrecisionPlan:
    """Token ids of the texts to compare on, and how to run the engines. Texts are cut at the context length."""

    texts: Sequence[Sequence[int]]
    max_new_tokens: int
    backend: str
    engines: EngineOptions


@dataclass(frozen=True)
class PrecisionReport:
    """`accepted_length` of greedy generations: the float32 pair, the float32 drafter in front of the int8 target, and
    the int8 pair."""

    divergence: Divergence
    accepted_length: dict[str, float]
    layers: dict[GraphName, list[LayerError]]

    @property
    def passed(self) -> bool:
        """Within both limits; NaN never is."""
        return self.divergence.kl <= LARGEST_KL and self.divergence.top1 >= LEAST_TOP1

    @property
    def keep_fp32(self) -> list[tuple[str, float]]:
        """(layer, share of the damage) of the target, worst first: which to keep in float32; none when passed."""
        return [] if self.passed else worst_layers(self.layers["target"])

    def as_json(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "passed": self.passed,
            "limits": {"kl": LARGEST_KL, "top1": LEAST_TOP1},
            "divergence": self.divergence._asdict(),
            "accepted_length": self.accepted_length,
            "layers": {graph: [layer._asdict() for layer in layers] for graph, layers in self.layers.items()},
            "keep_fp32": [{"layer": layer, "share": share} for layer, share in self.keep_fp32],
        }


def worst_layers(layers: Sequence[LayerError]) -> list[tuple[str, float]]:
    """(layer, share of the damage), worst first, until `NAMED` of the damage is accounted for."""
    total, named, result = sum(layer.damage for layer in layers), 0.0, []
    for layer in sorted(layers, key=lambda layer: -layer.damage):
        if not layer.damage or named >= NAMED:
            break
        result.append((layer.layer, layer.damage / total))
        named += layer.damage / total
    return result


def precision_report(
    bundle: Bundle, target: Path, drafter: Path, plan: PrecisionPlan, reporter: Reporter
) -> PrecisionReport:
    """Build the same pair in float32 in a temporary directory, and compare `bundle` with it.

    Raises `DsparkError` for a bundle that is itself in float32, and `OutputError` when there is no room.
    """
    if bundle.manifest.precision == "fp32":
        raise DsparkError(
            f"{bundle.path}: is in float32, there is nothing to compare it with",
            hint="build the pair with --precision int8 and report on that bundle",
        )
    with float32_bundle(bundle, target, drafter, plan.backend, reporter) as reference:
        divergence, accepted = _end_to_end(bundle, reference, plan, reporter)
        reporter.step("layer by layer")
        info = bundle.manifest
        layers = layer_errors(
            reference.file("onnx"), bundle.file("onnx"), info.target.vocab_size, info.drafter.block_size
        )
    return PrecisionReport(divergence, accepted, layers)


@contextmanager
def float32_bundle(bundle: Bundle, target: Path, drafter: Path, backend: str, reporter: Reporter) -> Iterator[Bundle]:
    """The same pair in float32 for one request at a time, for the duration of a `with` block."""
    with TemporaryDirectory(prefix="dspark-float32-") as folder:
        output = Path(folder) / "bundle"
        limits = bundle.manifest.limits.model_copy(update={"slots": 1})
        length = bundle.manifest.drafter.block_size if reads_text(bundle) else None
        vocabulary = given_vocabulary(bundle)
        plan = BuildPlan(target, drafter, output, backend, limits, draft_vocabulary=vocabulary, draft_length=length)
        build_bundle(plan, reporter)
        yield open_bundle(output)


def _end_to_end(
    bundle: Bundle, reference: Bundle, plan: PrecisionPlan, reporter: Reporter
) -> tuple[Divergence, dict[str, float]]:
    backend, info = get_backend(plan.backend), bundle.manifest
    context = info.limits.context_length
    texts = [list(text)[:context] for text in plan.texts]
    prompts = [text for text in texts[:GENERATIONS] if len(text) + plan.max_new_tokens <= context]
    with backend.open(reference, plan.engines) as exact, backend.open(bundle, plan.engines) as int8:
        step = reporter.step("next-token distributions")
        chunk = min(CHUNK, info.limits.prefill_chunk)
        divergence = measure_divergence(exact.verify, int8.verify, texts, chunk, step)
        pairs = {
            "fp32": exact,
            "int8_target_fp32_drafter": Engines(int8.verify, exact.draft),
            "int8": int8,
        }
        step, accepted = reporter.step("accepted length"), dict[str, float]()
        for name, engines in pairs.items():
            accepted[name] = measure_acceptance(engines, info, prompts, plan.max_new_tokens)
            step(len(accepted), len(pairs))
    return divergence, accepted

"""`dspark-export check --audit`: are sampled tokens distributed as the target says?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from dspark_engines import Bundle, RuntimeOptions
from dspark_engines.progress import Reporter, Step
from dspark_engines.scheduler import scheduler_names
from dspark_engines.text import TextCodec
from dspark_export.checks.audit import AuditResult, run_audit
from dspark_export.checks.sampling import Homogeneity, compare_sampling

ROUNDS, SEEDS, PROMPT = 1_000_000, 2_000, "The weather today"


class Audit(NamedTuple):
    """Every scheduler on a model small enough to know, and the real pair against plain sampling."""

    schedulers: Sequence[AuditResult]
    pair: Sequence[Homogeneity]

    @property
    def passed(self) -> bool:
        """Nothing speaks against losslessness."""
        return all(r.passed for r in self.schedulers) and all(r.passed for r in self.pair)

    def report(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "schedulers": [{**r._asdict(), "passed": r.passed} for r in self.schedulers],
            "pair": [{**r._asdict(), "passed": r.passed} for r in self.pair],
        }

    def rows(self) -> list[tuple[str, str, str]]:
        """Rows of the table that `check` prints."""
        rows = [
            (
                f"distribution: {r.scheduler}",
                f"{r.rounds:,} rounds: total variation {r.total_variation:.5f}, 99.9% bound {r.bound:.5f}",
                "ok" if r.passed else "FAILED",
            )
            for r in self.schedulers
        ]
        return rows + [
            (
                f"sampling: token {r.position + 1}",
                f"{r.samples:,} draws each way: chi-square {r.chi_square:.1f} on {r.degrees}, p = {r.p_value:.3f}",
                "ok" if r.passed else "FAILED",
            )
            for r in self.pair
        ]


def run(bundle: Bundle, options: RuntimeOptions, reporter: Reporter) -> Audit:
    """Run the audit, some minutes. That of the schedulers knows no drafter: it is left out for a further one."""
    schedulers = []
    first = bundle.manifest.drafter == bundle.stored.drafter
    for name in scheduler_names() if first else ():
        schedulers.append(run_audit(name, ROUNDS, 0, _shares(reporter.step(f"distribution of {name}"))))
    prompt = TextCodec(bundle).tokenizer.encode(PROMPT)
    step = reporter.step(f"sampling with and without {bundle.manifest.drafter.called}")
    return Audit(schedulers, compare_sampling(bundle, options, prompt, SEEDS, step))


def _shares(step: Step) -> Callable[[float], None]:
    """A step that is told the share that is done."""
    return lambda share: step(round(1000 * share), 1000)

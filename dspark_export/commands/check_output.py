"""What `dspark-export check` prints: a table for people, an object for machines."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from dspark_calibration import accepted_length
from dspark_engines import Bundle
from dspark_export.checks import Comparison, IdentityReport
from dspark_export.checks.acceptance import Acceptance
from dspark_export.checks.verdict import Verdict
from dspark_export.commands.audit import Audit
from dspark_export.commands.console import table_console

LAST_LINE = {"passed": "the bundle holds", "failed": "the bundle does NOT hold", "inconclusive": "INCONCLUSIVE"}


@dataclass(frozen=True, kw_only=True)
class CheckResult:
    """Everything that was checked, and the verdict."""

    bundle: Bundle
    parity: Sequence[Comparison]
    identity: IdentityReport
    acceptance: Acceptance
    audit: Audit | None
    verdict: Verdict

    @property
    def name(self) -> str:
        """What the drafter is called."""
        return self.bundle.manifest.drafter.called

    @property
    def accepted_length(self) -> float:
        """Over all speculative rounds."""
        return accepted_length([round_ for result in self.identity.results for round_ in result.rounds])

    def report(self) -> dict[str, Any]:
        """The JSON form."""
        identity, verdict = self.identity, self.verdict
        report = {
            "outcome": verdict.outcome,
            "passed": verdict.outcome == "passed",
            "reason": verdict.reason,
            "hint": verdict.hint,
            "drafter": self.name,
            "files": len(self.bundle.manifest.files),
            "parity": [{**_finite(c._asdict()), "passed": c.passed} for c in self.parity],
            "identity": {
                "prompts": len(identity.results),
                "tokens": identity.tokens,
                "differences": [{**_finite(d._asdict()), "tie": d.tie} for d in identity.differences],
                "ties": len(identity.ties),
                "accepted_length": self.accepted_length,
                "drafted": sum(r.proposed for result in identity.results for r in result.rounds),
                "accepted": sum(r.accepted for result in identity.results for r in result.rounds),
                "drafter_failure": identity.drafter_failure,
                "failure": identity.failure,
            },
            "acceptance": {**self.acceptance._asdict(), "passed": self.acceptance.passed},
        }
        return report if self.audit is None else report | {"audit": self.audit.report()}

    def show(self, *, named: bool = False) -> None:
        """Print it for people, `named` after its drafter where there are several."""
        table = Table("check", "outcome", "", title=f"drafter {self.name}" if named else None)
        table.add_row("hashes", f"{len(self.bundle.manifest.files)} files", "ok")
        for c in self.parity:
            error = f"max error {c.max_error:.2g}, rms {c.rms_error:.2g}, {c.worst:.0%} of tolerance"
            table.add_row(f"parity, {c.what}", error, "ok" if c.passed else "FAILED")
        table.add_row("greedy identity", self._identity(), self._identity_outcome())
        table.add_row("accepted length", self.acceptance.text, "ok" if self.acceptance.passed else "FAILED")
        for row in [] if self.audit is None else self.audit.rows():
            table.add_row(*row)
        console = table_console()
        console.print(table)
        for d in self.identity.differences:
            kind, where = "tie" if d.tie else "DIFFERENCE", f"prompt {d.prompt}, token {d.position}"
            console.print(f"{kind}: {where}: plain {d.plain}, speculative {d.speculative}, gap {d.gap:.2g}")
        if self.verdict.reason:
            console.print(f"{self.verdict.outcome}: {self.verdict.reason}", f"hint: {self.verdict.hint}", sep="\n")
        console.print(LAST_LINE[self.verdict.outcome] + (f" ({self.name})" if named else ""))

    def _identity(self) -> str:
        identity = self.identity
        if identity.failure:
            return identity.failure
        real = len(identity.differences) - len(identity.ties)
        return f"{len(identity.results)} prompts, {identity.tokens} tokens: {real} differ, {len(identity.ties)} ties"

    def _identity_outcome(self) -> str:
        if not self.identity.passed:
            return "FAILED"
        return "INCONCLUSIVE" if self.verdict.outcome == "inconclusive" else "ok"


def _finite(fields: dict[str, Any]) -> dict[str, Any]:
    """JSON knows neither NaN nor infinity: null stands for both."""
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in fields.items()}

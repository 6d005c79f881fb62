"""What all checks together say: the bundle holds, it does not, or nothing was shown about speculation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from dspark_calibration import Round
from dspark_export.checks.acceptance import Acceptance
from dspark_export.checks.identity import IdentityReport

Outcome = Literal["passed", "failed", "inconclusive"]


class Verdict(NamedTuple):
    """The outcome, and where it is not "passed", why and what to do."""

    outcome: Outcome
    reason: str = ""
    hint: str = ""

    @property
    def exit_code(self) -> int:
        """0 passed, 1 failed, 2 inconclusive."""
        return {"passed": 0, "failed": 1, "inconclusive": 2}[self.outcome]


def judge(
    comparisons_passed: bool, identity: IdentityReport, acceptance: Acceptance, *, drafts: bool = True
) -> Verdict:
    """A comparison that failed counts first; identity without accepted drafts says nothing about speculation.

    `drafts`: whether the bundle has a drafter at all.
    """
    rounds = [round_ for result in identity.results for round_ in result.rounds]
    if not comparisons_passed or not identity.passed:
        return Verdict("failed", identity.failure or "a comparison failed", "see the rows that say FAILED")
    if not drafts:
        return Verdict("passed")
    unknown = _not_speculated(identity.drafter_failure, rounds)
    if unknown is not None:
        return unknown
    if not acceptance.passed:
        hint = "calibrate on prompts like these, or look for what has changed in the drafter or its features"
        return Verdict("failed", f"the accepted length is too low: {acceptance.text}", hint)
    if not any(round_.accepted for round_ in rounds):
        proposed = sum(round_.proposed for round_ in rounds)
        reason = f"none of {proposed} drafted tokens was accepted, so only plain decoding was compared with itself"
        return Verdict("inconclusive", reason, "is it this target's drafter? If it is, try more or other --prompts")
    return Verdict("passed")


def _not_speculated(drafter_failure: str, rounds: Sequence[Round]) -> Verdict | None:
    if drafter_failure:
        reason = f"the drafter failed ({drafter_failure}), and requests went on without it"
        return Verdict("inconclusive", reason, "mend the drafter or its engine, and check again")
    if not any(round_.proposed for round_ in rounds):
        hint = "use more --max-new-tokens, or prompts that are answered at length"
        return Verdict("inconclusive", "nothing was drafted: every output ended before a draft was of use", hint)
    return None

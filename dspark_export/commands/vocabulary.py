"""--draft-vocabulary of `build` and `export`: from the option to a plan, and what it changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from dspark_engines import open_bundle
from dspark_engines.bundle import Manifest
from dspark_engines.errors import CheckpointError
from dspark_engines.progress import Reporter
from dspark_export.prompts import Prompt, encode_prompts
from dspark_export.vocabulary import MEASURED, Drafting, choose_vocabulary, measure_drafting, read_vocabulary

if TYPE_CHECKING:
    from dspark_export.bundling import BuildPlan


@dataclass(frozen=True, kw_only=True)
class VocabularyReport:
    """What a reduced draft vocabulary is and did; None for what was not measured."""

    size: int
    of: int
    coverage: float | None
    before: Drafting | None
    after: Drafting | None

    def text(self) -> str:
        """For people."""
        parts = [f"draft vocabulary: {self.size} of {self.of} tokens"]
        if self.coverage is not None:
            parts.append(f"{self.coverage:.1%} of what the target says to prompts that were not counted")
        if self.before is not None and self.after is not None:
            parts.append(f"accepted length {self.before.accepted_length:.2f} -> {self.after.accepted_length:.2f}")
            parts.append(f"draft step {self.before.draft_ms:.1f} -> {self.after.draft_ms:.1f} ms")
        return ", ".join(parts)

    def report(self) -> dict[str, Any]:
        """The JSON form."""
        measured = {"before": self.before, "after": self.after}
        drafting = {name: None if value is None else value._asdict() for name, value in measured.items()}
        return {"size": self.size, "of": self.of, "coverage": self.coverage} | drafting


def with_vocabulary(
    plan: BuildPlan, option: str | None, prompts: Sequence[Prompt] | None, tokens: int, reporter: Reporter
) -> tuple[BuildPlan, Drafting | None]:
    """`plan` with the tokens that `option` asks for, and drafting without them where it was measured.

    For a number of tokens a whole bundle is built first, in a temporary place, and the target's answers are counted.
    """
    if option is None:
        return plan, None
    wanted = read_vocabulary(option)
    if not isinstance(wanted, int):
        return replace(plan, draft_vocabulary=wanted), None
    if plan.backend is None or prompts is None:
        raise CheckpointError(
            f"--draft-vocabulary {wanted}: nothing to count on",
            hint="`build` it with --prompts FILE, or give a file of token ids",
        )
    _check(plan, wanted)
    with TemporaryDirectory(prefix=".vocabulary-", dir=_parent(plan.output)) as folder:
        return _count(
            replace(plan, output=Path(folder) / "bundle", overwrite=False), plan, wanted, prompts, tokens, reporter
        )


def vocabulary_report(
    plan: BuildPlan,
    manifest: Manifest,
    before: Drafting | None,
    prompts: Sequence[Prompt] | None,
    tokens: int,
    reporter: Reporter,
) -> VocabularyReport | None:
    """What came of it; None for a drafter that drafts every token."""
    info, after = manifest.drafter.draft_vocabulary, None
    if info is None:
        return None
    if before is not None and plan.backend is not None and prompts is not None:
        reporter.step("drafting with the smaller vocabulary")
        bundle = open_bundle(plan.output)
        after = measure_drafting(bundle, plan.backend, encode_prompts(bundle, prompts[:MEASURED]), tokens)
    of = manifest.target.vocab_size
    return VocabularyReport(size=info.size, of=of, coverage=info.coverage, before=before, after=after)


def _count(
    whole: BuildPlan, plan: BuildPlan, size: int, prompts: Sequence[Prompt], tokens: int, reporter: Reporter
) -> tuple[BuildPlan, Drafting]:
    from dspark_export.bundling import build_bundle

    assert plan.backend is not None, "the caller has asked"
    build_bundle(whole, reporter)
    bundle = open_bundle(whole.output)
    ids = encode_prompts(bundle, prompts)
    step = reporter.step("counting what the target says")
    choice = choose_vocabulary(bundle, plan.backend, ids, size, tokens, step)
    reporter.step("drafting with the whole vocabulary")
    before = measure_drafting(bundle, plan.backend, ids, tokens)
    return replace(plan, draft_vocabulary=choice.ids, coverage=choice.coverage), before


def _check(plan: BuildPlan, size: int) -> None:
    """What can be wrong with a number, before anything is built."""
    from dspark_engines.bundle import check_destination
    from dspark_export.checkpoints import check_size, open_drafter, open_target, reduce_drafter

    check_destination(plan.output, overwrite=plan.overwrite)
    target = open_target(plan.target).spec
    check_size("--draft-vocabulary", size, target.vocab_size)
    assert plan.drafter is not None, "there is a vocabulary to choose"
    reduce_drafter(open_drafter(plan.drafter, target), range(size))


def _parent(output: Path) -> Path | None:
    """Where the bundle goes, if that is there: on the same disk as what is asked for room."""
    parent = output.resolve().parent
    return parent if parent.is_dir() else None

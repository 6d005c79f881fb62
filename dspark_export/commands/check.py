"""`dspark-export check`: is this bundle whole, and does it do what it should?"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import click

from dspark_engines import Bundle, RuntimeOptions
from dspark_engines.backends import EngineOptions, Engines, get_backend
from dspark_engines.bundle.vocabulary import given_vocabulary
from dspark_engines.errors import CheckpointError
from dspark_engines.measured import resolve_engines
from dspark_engines.progress import Reporter
from dspark_engines.runtime.round.draft_health import failure_text
from dspark_export.checks import Comparison, IdentityReport, check_identity, compare_engines, worst_steps
from dspark_export.checks.acceptance import measure_acceptance
from dspark_export.checks.origin import check_hashes, check_origin
from dspark_export.checks.verdict import judge
from dspark_export.commands.audit import run as run_audits
from dspark_export.commands.check_output import CheckResult
from dspark_export.commands.console import print_json, reporting
from dspark_export.commands.drafters import open_seen
from dspark_export.commands.help import command as styled
from dspark_export.commands.options import backend_option, bundle_argument, json_option, threads_option
from dspark_export.commands.paths import PATH
from dspark_export.commands.precision import run as run_precision
from dspark_export.prompts import built_in_prompts, encode_prompts, read_prompt_set


@styled("check", "Is a bundle whole, and does it work?")
@bundle_argument
@click.option("--prompts", type=PATH, help="JSON Lines of prompts (default: a few built-in ones).")
@click.option("--limit", type=click.IntRange(min=1), help="Use only the first prompts.")
@click.option("--max-new-tokens", type=click.IntRange(min=1), default=32, help="Tokens generated for each prompt.")
@click.option(
    "--target", type=PATH, help="The target's checkpoint, to compare the graphs with torch as well (extra [parity])."
)
@click.option("--drafter", type=PATH, help="The drafter's checkpoint; give both or neither.")
@click.option(
    "--through",
    metavar="NAME",
    help="Check one drafter of the bundle, or ngram (default: all that the bundle has, one after the other).",
)
@click.option(
    "--audit", is_flag=True, help="Also test sampled output against the target's distribution (takes minutes)."
)
@click.option(
    "--min-accepted-length",
    type=click.FloatRange(min=1),
    help="Fail below this many tokens a round; by default the bundle's calibration says what to expect.",
)
@click.option(
    "--precision-report",
    is_flag=True,
    help="Report what int8 costs against float32, and nothing else. The checkpoints are those that the bundle was "
    "built from, where they were or at --target and --drafter.",
)
@threads_option
@backend_option
@json_option
def command(
    bundle: Path,
    prompts: Path | None,
    limit: int | None,
    max_new_tokens: int,
    target: Path | None,
    drafter: Path | None,
    through: str | None,
    audit: bool,
    min_accepted_length: float | None,
    precision_report: bool,
    threads: int,
    backend: str,
    as_json: bool,
) -> int:
    """Check BUNDLE: every hash, engines against exported graphs, greedy output against plain decoding.

    \b
    Exit codes:
      0  everything holds
      1  a comparison failed, or too little of what was drafted was accepted
      2  INCONCLUSIVE: the drafter failed, or nothing it drafted was accepted, so identical outputs say nothing
         about speculation; or an error, a damaged bundle for one
    """
    if (target is None) != (drafter is None):
        raise CheckpointError("only one of --target and --drafter is given", hint="pass both checkpoints")
    _check_options(audit, min_accepted_length, precision_report)
    opened = open_seen(bundle, through)
    chosen = built_in_prompts(limit) if prompts is None else read_prompt_set(prompts, limit)
    token_ids = encode_prompts(opened, chosen, cut=precision_report)
    options = resolve_engines(opened, backend, EngineOptions(threads))
    if precision_report:
        return run_precision(opened, token_ids, (target, drafter), max_new_tokens, (backend, options), as_json)
    asked = _Asked(backend, options, token_ids, max_new_tokens, (target, drafter), audit, min_accepted_length)
    views = [opened] if through else [opened, *map(opened.with_drafter, opened.drafters[1:])]
    with reporting() as reporter:
        check_hashes(opened, reporter.step("hashes"))
        first, *others = [_check(view, asked, reporter) for view in views]
    if as_json:
        further = {other.name: other.report() for other in others}
        print_json(first.report() | ({"further_drafters": further} if further else {}))
    else:
        for result in (first, *others):
            result.show(named=bool(others))
    codes = {result.verdict.exit_code for result in (first, *others)}
    return next(code for code in (1, 2, 0) if code in codes)


class _Asked(NamedTuple):
    """What is to be checked of each drafter, and how."""

    backend: str
    options: EngineOptions
    token_ids: Sequence[Sequence[int]]
    max_new_tokens: int
    checkpoints: tuple[Path | None, Path | None]
    audit: bool
    min_accepted_length: float | None


def _check(bundle: Bundle, asked: _Asked, reporter: Reporter) -> CheckResult:
    """Everything about the drafter that the bundle is seen through."""
    with get_backend(asked.backend).open(bundle, asked.options) as engines:
        parity, identity = _compare(bundle, asked, engines, reporter)
    if bundle.manifest.drafter == bundle.stored.drafter:
        parity += _against_torch(bundle, *asked.checkpoints, reporter)
    whole = RuntimeOptions(asked.backend, asked.options, scheduler="fixed", speculation="on")
    audited = run_audits(bundle, whole, reporter) if asked.audit else None
    acceptance = measure_acceptance(bundle, asked.backend, identity.results, asked.min_accepted_length)
    sound = all(c.passed for c in parity) and (audited is None or audited.passed)
    return CheckResult(
        bundle=bundle,
        parity=parity,
        identity=identity,
        acceptance=acceptance,
        audit=audited,
        verdict=judge(sound, identity, acceptance, drafts=bundle.manifest.drafter.drafts),
    )


def _check_options(audit: bool, min_accepted_length: float | None, precision_report: bool) -> None:
    if min_accepted_length is not None and not math.isfinite(min_accepted_length):
        raise click.UsageError(f"--min-accepted-length is {min_accepted_length}: give a number of tokens")
    if precision_report and audit:
        raise click.UsageError("--audit and --precision-report are runs of their own: give one of them")
    if precision_report and min_accepted_length is not None:
        raise click.UsageError("--precision-report judges no accepted length: leave out --min-accepted-length")


def _compare(
    bundle: Bundle, asked: _Asked, engines: Engines, reporter: Reporter
) -> tuple[list[Comparison], IdentityReport]:
    """Engines against exported graphs, then with speculation against without; `drafter_failure` is of either."""
    failures: list[Exception] = []
    reporter.step("engines against exported graphs")
    compared = compare_engines(bundle, engines, backend=asked.backend, draft_failed=failures.append)
    parity = _labelled("engine", compared)
    step = reporter.step("speculative against plain")
    identity = check_identity(engines, bundle.manifest, asked.token_ids, asked.max_new_tokens, step)
    if failures:
        identity = identity._replace(drafter_failure=failure_text(failures[0]))
    return parity, identity


def _labelled(form: str, comparisons: Iterable[Comparison]) -> list[Comparison]:
    """The worst step of every output, named after what was held against the exported graph."""
    return [worst._replace(what=f"{form}: {worst.what}") for worst in worst_steps(comparisons)]


def _against_torch(bundle: Bundle, target: Path | None, drafter: Path | None, reporter: Reporter) -> list[Comparison]:
    """Exported graphs against torch, when both checkpoints were named. Raises `CheckpointError` for others."""
    if target is None or drafter is None:
        return []
    from dspark_export.checkpoints import open_drafter, open_target, reduce_drafter, with_draft_length
    from dspark_export.parity.check import compare_with_torch

    reporter.step("exported graphs against torch")
    opened = open_target(target)
    draft, kept = open_drafter(drafter, opened.spec, opened.names), given_vocabulary(bundle)
    if draft.spec.chain is not None:  # no checkpoint of a chain says how many it drafts
        draft = with_draft_length(draft, bundle.manifest.drafter.block_size)
    draft = reduce_drafter(draft, kept) if kept else draft
    check_origin(target, opened.files, bundle.manifest.target.files)
    check_origin(drafter, draft.files, bundle.manifest.drafter.files)
    return _labelled("torch", compare_with_torch(bundle, opened, draft))

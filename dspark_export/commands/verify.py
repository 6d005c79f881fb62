"""`dspark-export verify`: is this bundle whole, and does it do what it should?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from dspark_calibration import accepted_length
from dspark_engines import Bundle, RuntimeOptions, open_bundle
from dspark_engines.backends import EngineOptions, get_backend
from dspark_engines.errors import CheckpointError
from dspark_engines.placement import resolve_engines
from dspark_export.commands.audit import run as run_audits
from dspark_export.commands.console import print_json, reporting, table_console
from dspark_export.commands.options import backend_option, bundle_argument, json_option, threads_option
from dspark_export.commands.precision import run as run_precision
from dspark_export.progress import Reporter
from dspark_export.verification import (
    Comparison,
    IdentityReport,
    built_in_prompts,
    check_identity,
    compare_engines,
    encode_prompts,
    read_prompt_set,
)
from dspark_export.verification.origin import check_hashes, check_origin

FAILED = 1


@click.command("verify")
@bundle_argument
@click.option("--prompts", type=click.Path(path_type=Path), help="JSON Lines of prompts; a few built-in ones without.")
@click.option("--limit", type=click.IntRange(min=1), help="Use only the first prompts.")
@click.option("--max-new-tokens", type=click.IntRange(min=1), default=32, help="Tokens a prompt.")
@click.option("--target", type=click.Path(path_type=Path), help="Also hold the graphs against torch: the target…")
@click.option("--drafter", type=click.Path(path_type=Path), help="…and the drafter; needs the extra [parity].")
@click.option("--audit", is_flag=True, help="Also test what is sampled against the target's distribution (minutes).")
@click.option(
    "--precision-report",
    is_flag=True,
    help="Instead: what int8 costs against float32. The checkpoints are those that the bundle was built from, where "
    "they were or at --target and --drafter.",
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
    audit: bool,
    precision_report: bool,
    threads: int,
    backend: str,
    as_json: bool,
) -> int:
    """Check BUNDLE: every hash, engines against exported graphs, greedy output against plain decoding.

    Exit code 0 when everything holds, 1 when a comparison fails, 2 when the bundle is damaged.
    """
    if (target is None) != (drafter is None):
        raise CheckpointError("only one of --target and --drafter is given", hint="pass both checkpoints")
    if audit and precision_report:
        raise click.UsageError("--audit and --precision-report are runs of their own: give one of them")
    opened = open_bundle(bundle)
    chosen = built_in_prompts(limit) if prompts is None else read_prompt_set(prompts, limit)
    token_ids = encode_prompts(opened, chosen, cut=precision_report)
    options = resolve_engines(opened, backend, EngineOptions(threads))
    if precision_report:
        return run_precision(opened, token_ids, (target, drafter), max_new_tokens, (backend, options), as_json)
    with reporting() as reporter:
        check_hashes(opened, reporter.step("hashes"))
        with get_backend(backend).open(opened, options) as engines:
            reporter.step("engines against exported graphs")
            parity = _labelled("engine", compare_engines(opened, engines))
            step = reporter.step("speculative against plain")
            identity = check_identity(engines, opened.manifest, token_ids, max_new_tokens, step)
        parity += _against_torch(opened, target, drafter, reporter)
        audited = run_audits(opened, RuntimeOptions(backend, options), reporter) if audit else None
    passed = identity.passed and all(c.passed for c in parity) and (audited is None or audited.passed)
    if as_json:
        extra = {} if audited is None else {"audit": audited.report()}
        print_json(_report(opened, parity, identity, passed) | extra)
    else:
        _show(opened, parity, identity, passed, [] if audited is None else audited.rows())
    return 0 if passed else FAILED


def _labelled(form: str, comparisons: Iterable[Comparison]) -> list[Comparison]:
    """The worst step of every output, named after what was held against the exported graph."""
    worst: dict[str, Comparison] = {}
    for comparison in comparisons:
        known = worst.get(comparison.what)
        if known is None or comparison.worst > known.worst:
            worst[comparison.what] = comparison
    return [comparison._replace(what=f"{form}: {comparison.what}") for comparison in worst.values()]


def _against_torch(bundle: Bundle, target: Path | None, drafter: Path | None, reporter: Reporter) -> list[Comparison]:
    """Exported graphs against torch, when both checkpoints were named. Raises `CheckpointError` for others."""
    if target is None or drafter is None:
        return []
    from dspark_export.checkpoints import open_drafter, open_target
    from dspark_export.parity.check import compare_with_torch

    reporter.step("exported graphs against torch")
    opened = open_target(target)
    draft = open_drafter(drafter, opened.spec)
    check_origin(target, opened.files, bundle.manifest.target.files)
    check_origin(drafter, draft.files, bundle.manifest.drafter.files)
    return _labelled("torch", compare_with_torch(bundle, opened, draft))


def _report(bundle: Bundle, parity: Sequence[Comparison], identity: IdentityReport, passed: bool) -> dict[str, Any]:
    return {
        "passed": passed,
        "files": len(bundle.manifest.files),
        "parity": [{**c._asdict(), "passed": c.passed} for c in parity],
        "identity": {
            "prompts": len(identity.results),
            "tokens": identity.tokens,
            "differences": [{**d._asdict(), "tie": d.tie} for d in identity.differences],
            "ties": len(identity.ties),
            "accepted_length": accepted_length([r for result in identity.results for r in result.rounds]),
        },
    }


def _show(
    bundle: Bundle,
    parity: Sequence[Comparison],
    identity: IdentityReport,
    passed: bool,
    audit: Sequence[tuple[str, str, str]],
) -> None:
    table = Table("check", "outcome", "")
    table.add_row("hashes", f"{len(bundle.manifest.files)} files", "ok")
    for c in parity:
        error = f"max error {c.max_error:.2g}, rms {c.rms_error:.2g}, {c.worst:.0%} of tolerance"
        table.add_row(f"parity, {c.what}", error, "ok" if c.passed else "FAILED")
    real = len(identity.differences) - len(identity.ties)
    outcome = (
        f"{len(identity.results)} prompts, {identity.tokens} tokens: {real} differ, {len(identity.ties)} ties; "
        f"accepted length {accepted_length([r for result in identity.results for r in result.rounds]):.2f}"
    )
    table.add_row("greedy identity", outcome, "ok" if identity.passed else "FAILED")
    for row in audit:
        table.add_row(*row)
    console = table_console()
    console.print(table)
    for d in identity.differences:
        kind = "tie" if d.tie else "DIFFERENCE"
        where = f"prompt {d.prompt}, token {d.position}"
        console.print(f"{kind}: {where}: plain {d.plain}, speculative {d.speculative}, gap {d.gap:.2g}")
    console.print("the bundle holds" if passed else "the bundle does NOT hold")

"""`dspark-export generate`: text from a bundle, streamed, or a file of requests at once."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from dspark_engines import Bundle, GenerationRequest, GenerationResult, Runtime, RuntimeOptions
from dspark_engines.backends import EngineOptions
from dspark_engines.bundle import check_file_place
from dspark_engines.errors import RequestError
from dspark_engines.runtime import Failed, Finished, RunStatistics, Tokens, check_request, run_statistics
from dspark_engines.runtime.serving.pipeline import Pipeline
from dspark_engines.runtime.serving.timeline import ENGINES
from dspark_engines.text import TextCodec
from dspark_engines.text_file import SURROGATE, decode_text, read_text
from dspark_export.commands.batch import Answer, Defaults, read_requests, results, submit_lines
from dspark_export.commands.console import USER_ERROR, print_error, print_json, print_text, reporting
from dspark_export.commands.drafters import drafter_option, open_seen
from dspark_export.commands.help import command as styled
from dspark_export.commands.options import backend_option, bundle_argument, speculation_options, threads_option
from dspark_export.commands.paths import PATH
from dspark_export.commands.sampling import sampling_options, scheduler_option, take_sampling


@styled("generate", "Generate text from a bundle.")
@bundle_argument
@click.option("--prompt", help="The prompt (default: read from standard input).")
@click.option("--prompt-file", type=PATH, help="Read the prompt from a file.")
@click.option("--batch-file", type=PATH, help="JSON Lines of requests; prints one JSON result for each.")
@click.option("--max-new-tokens", type=click.IntRange(min=1), default=128, help="Stop after this many tokens.")
@drafter_option
@speculation_options
@click.option("--raw", is_flag=True, help="Send the prompt as it is, without the chat template.")
@sampling_options
@scheduler_option
@click.option(
    "--pipeline",
    type=click.Choice(["auto", "on", "off"]),
    default="auto",
    help="Whether drafting and verifying overlap.",
)
@click.option("--trace", type=PATH, help="Write a timeline in Chrome's trace format.")
@threads_option
@backend_option
@click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object instead of text; after a batch, one about the run."
)
def command(
    bundle: Path,
    prompt: str | None,
    prompt_file: Path | None,
    batch_file: Path | None,
    scheduler: str,
    pipeline: Pipeline,
    trace: Path | None,
    threads: int,
    backend: str,
    drafter: str | None,
    as_json: bool,
    **options: Any,
) -> int:
    """Generate from BUNDLE. Text goes to standard output as it comes, figures to standard error.

    Without --prompt, --prompt-file and --batch-file the prompt is read from standard input. Of a file and of standard
    input one newline at the end, which editors and `echo` put there, is dropped.
    """
    defaults = Defaults(options["max_new_tokens"], options["raw"], True, take_sampling(options))
    opened = open_seen(bundle, drafter)
    if trace is not None:
        check_file_place(trace)
    settings = RuntimeOptions(
        backend,
        EngineOptions(threads),
        1,
        scheduler=scheduler,
        pipeline=pipeline,
        speculation="off" if options["no_speculation"] else options["speculation"],
    )
    if batch_file is not None:
        if prompt is not None or prompt_file is not None:
            raise RequestError("both a prompt and --batch-file are given", hint="pass one of them")
        return _batch(opened, batch_file, settings, defaults, trace, as_json)
    _single(opened, read_prompt(prompt, prompt_file), settings, defaults, trace, as_json)
    return 0


def _batch(
    bundle: Bundle, path: Path, settings: RuntimeOptions, defaults: Defaults, trace: Path | None, as_json: bool
) -> int:
    """Results in the file's order; lines that were wrong are named on standard error, and the exit code is 2."""
    lines = read_requests(path)
    slots = min(len(lines), bundle.manifest.limits.slots)
    codec, answers = TextCodec(bundle), list[Answer]()
    with reporting() as reporter, Runtime(bundle, replace(settings, max_batch=slots, max_queue=len(lines))) as runtime:
        step = reporter.step("generating")
        submitted = submit_lines(path, lines, runtime, codec, defaults)
        for done, answer in enumerate(results(submitted, codec), 1):
            print_json(answer.report)
            answers.append(answer)
            step(done, len(lines))
    _write_trace(runtime, trace)
    served = [answer.result for answer in answers if answer.result is not None]
    _print_run(run_statistics(runtime, served), as_json)
    wrong = [answer.error for answer in answers if answer.error is not None]
    for error in wrong:
        print_error(error)
    return USER_ERROR if wrong else 0


def _print_run(statistics: RunStatistics, as_json: bool) -> None:
    """One more line of standard output where it was asked for, else a line for people."""
    if as_json:
        print_json({"run": statistics.report()})
        return
    click.echo(
        f"{statistics.requests} requests, {statistics.tokens} tokens in {statistics.seconds:.1f} s; scheduler "
        f"{statistics.scheduler}, verify length {statistics.mean_verify_length:.2f}, accepted length "
        f"{statistics.accepted_length:.2f}\n{statistics.reason}",
        err=True,
    )
    _print_trouble(statistics)


def _print_trouble(statistics: RunStatistics) -> None:
    if statistics.trouble():
        click.echo(f"the drafter: {statistics.trouble()}", err=True)


def _single(
    bundle: Bundle, prompt: str, settings: RuntimeOptions, defaults: Defaults, trace: Path | None, as_json: bool
) -> None:
    codec = TextCodec(bundle)
    ids = codec.prompt_ids(prompt, raw=defaults.raw)
    request = GenerationRequest(ids, defaults.max_new_tokens, defaults.speculate, defaults.sampling)
    check_request(request, bundle.manifest)  # before the engines are loaded
    with Runtime(bundle, settings) as runtime:
        result = _stream(runtime, codec, request, echo=not as_json)
    _write_trace(runtime, trace)
    run = run_statistics(runtime, [result])
    if as_json:
        print_json(result.report(codec.tokenizer.decode(result.token_ids)) | {"run": run.report()})
    else:
        print_text("")
        click.echo(_summary(result), err=True)
        click.echo(run.reason, err=True)
        _print_trouble(run)


def read_prompt(prompt: str | None, prompt_file: Path | None) -> str:
    """The prompt from the option, the file or standard input. Raises `DsparkError`."""
    if prompt is not None and prompt_file is not None:
        raise RequestError("both --prompt and --prompt-file are given", hint="pass one of them")
    if prompt is not None:
        return decode_text(os.fsencode(prompt), "--prompt") if SURROGATE.search(prompt) else prompt
    if prompt_file is None:
        return _standard_input().removesuffix("\n")
    try:
        return read_text(prompt_file).removesuffix("\n")
    except OSError as error:
        raise RequestError(f"{prompt_file}: not readable: {error.strerror}", hint="pass a UTF-8 text file") from None


def _standard_input() -> str:
    if sys.stdin is None or sys.stdin.isatty():
        raise RequestError("no prompt", hint="pass --prompt TEXT, --prompt-file FILE, or pipe text in")
    try:
        return decode_text(sys.stdin.buffer.read(), "standard input")
    except OSError as error:
        raise RequestError(f"standard input: not readable: {error.strerror}", hint="pass --prompt TEXT") from None


def _write_trace(runtime: Runtime, path: Path | None) -> None:
    """Write the timeline where it was asked for, and say how busy the engines were."""
    if path is None:
        return
    runtime.timeline.write(path)
    idle = ", ".join(f"{engine} {runtime.timeline.idle_share(engine):.0%}" for engine in ENGINES)
    click.echo(f"{path}: {runtime.plan.cohorts.reason}; idle share: {idle}", err=True)


def _stream(runtime: Runtime, codec: TextCodec, request: GenerationRequest, *, echo: bool) -> GenerationResult:
    text, stream = codec.stream(), runtime.submit(request)
    for event in stream:
        if isinstance(event, Tokens) and echo:
            print_text(text.push(event.token_ids), end="")
        elif isinstance(event, Failed):
            raise event.error
        elif isinstance(event, Finished):
            if echo:
                print_text(text.finish(), end="")
            return event.result
    raise AssertionError("a stream ends with Finished or Failed")


def _summary(result: GenerationResult) -> str:
    report, seconds = result.report(""), result.seconds
    return (
        f"{len(result.token_ids)} tokens in {report['rounds']} rounds, accepted length "
        f"{report['accepted_length']:.2f}, {report['tokens_per_second']:.1f} tokens/s "
        f"(prefill {seconds.prefill:.2f} s, draft {seconds.draft:.2f} s, verify {seconds.verify:.2f} s, "
        f"other {seconds.other:.2f} s)"
    )

"""`dspark-export generate`: text from a bundle, streamed."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from dspark_engines import Bundle, GenerationRequest, GenerationResult, Generator, open_bundle
from dspark_engines.backends import EngineOptions, get_backend
from dspark_engines.errors import RequestError
from dspark_engines.runtime import check_request
from dspark_engines.text import TextCodec
from dspark_export.commands.console import print_json
from dspark_export.commands.options import backend_option, bundle_argument, json_option, threads_option


@click.command("generate")
@bundle_argument
@click.option("--prompt", help="The prompt; without it and --prompt-file, standard input is read.")
@click.option("--prompt-file", type=click.Path(path_type=Path), help="Read the prompt from a file.")
@click.option("--max-new-tokens", type=click.IntRange(min=1), default=128, help="Stop after so many tokens.")
@click.option("--speculation/--no-speculation", default=True, help="Draft and verify, or decode plainly.")
@click.option("--raw", is_flag=True, help="Send the prompt as it is, without the chat template.")
@threads_option
@backend_option
@json_option
def command(
    bundle: Path,
    prompt: str | None,
    prompt_file: Path | None,
    max_new_tokens: int,
    speculation: bool,
    raw: bool,
    threads: int,
    backend: str,
    as_json: bool,
) -> None:
    """Generate greedily from BUNDLE. Text goes to standard output as it comes, figures to standard error."""
    opened = open_bundle(bundle)
    codec = TextCodec(opened)
    ids = codec.prompt_ids(read_prompt(prompt, prompt_file), raw=raw)
    request = GenerationRequest(ids, max_new_tokens, speculation)
    check_request(request, opened.manifest)  # before the engines are loaded
    result = _generate(opened, codec, request, get_backend(backend).name, threads, echo=not as_json)
    report = result.report(codec.tokenizer.decode(result.token_ids))
    if as_json:
        print_json(report)
    else:
        click.echo()
        click.echo(_summary(result), err=True)


def read_prompt(prompt: str | None, prompt_file: Path | None) -> str:
    """The prompt from the option, the file or standard input. Raises `RequestError`."""
    try:
        text = _prompt_text(prompt, prompt_file)
        text.encode("utf-8")  # bytes of another encoding come as lone surrogates
    except UnicodeError as error:
        raise RequestError(f"the prompt is not UTF-8 text: {error}", hint="pass UTF-8 text") from None
    return text


def _prompt_text(prompt: str | None, prompt_file: Path | None) -> str:
    if prompt is not None and prompt_file is not None:
        raise RequestError("both --prompt and --prompt-file are given", hint="pass one of them")
    if prompt is not None:
        return prompt
    if prompt_file is None:
        if sys.stdin.isatty():
            raise RequestError("no prompt", hint="pass --prompt TEXT, --prompt-file FILE, or pipe text in")
        return sys.stdin.read()
    try:
        return prompt_file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"{prompt_file}: not readable: {error}", hint="pass a UTF-8 text file") from None


def _generate(
    bundle: Bundle, codec: TextCodec, request: GenerationRequest, backend: str, threads: int, *, echo: bool
) -> GenerationResult:
    with get_backend(backend).open(bundle, EngineOptions(threads)) as engines:
        generator = Generator(engines, bundle.manifest)
        result, text = generator.new_result(), codec.stream()
        for token_ids in generator.stream(request, result):
            if echo:
                click.echo(text.push(token_ids), nl=False)
        if echo:
            click.echo(text.finish(), nl=False)
        return result


def _summary(result: GenerationResult) -> str:
    report, seconds = result.report(""), result.seconds
    return (
        f"{len(result.token_ids)} tokens in {report['rounds']} rounds, accepted length "
        f"{report['accepted_length']:.2f}, {report['tokens_per_second']:.1f} tokens/s "
        f"(prefill {seconds.prefill:.2f} s, draft {seconds.draft:.2f} s, verify {seconds.verify:.2f} s, "
        f"other {seconds.other:.2f} s)"
    )

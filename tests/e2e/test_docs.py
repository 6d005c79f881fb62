"""The documentation tells the truth: its Python runs, its commands exist, its links lead somewhere."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from dspark_export.commands.main import cli

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    """Fenced blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text("utf-8"), re.S | re.M)


def commands() -> list[str]:
    """Every dspark-export command line in a fenced block, continuation lines joined."""
    text = "\n".join(block for page in PAGES for block in blocks(page, "") + blocks(page, "sh"))
    joined = re.sub(r"\\\n\s*", " ", text)
    return [line.split("#")[0].strip() for line in joined.splitlines() if line.startswith("dspark-export ")]


def test_there_is_something_to_check() -> None:
    assert len(commands()) >= 8
    assert any(blocks(page, "python") for page in PAGES)


@pytest.mark.parametrize("line", commands())
def test_documented_commands_parse(line: str) -> None:
    name, *arguments = shlex.split(line)[1:]
    context = click.Context(cli)
    command = cli.get_command(context, name)
    assert command is not None, f"no command {name}"
    command.make_context(name, arguments, parent=context)  # raises for an option that does not exist


def test_documented_python_runs(smollm2_bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(smollm2_bundle.parent.parent)
    for page in PAGES:
        for block in blocks(page, "python"):
            exec(compile(block, str(page), "exec"), {})  # our own documentation
    assert capsys.readouterr().out.strip()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text("utf-8")):
        assert (page.parent / target).exists(), f"{page.name}: {target}"

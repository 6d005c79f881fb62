"""`dspark-export convert`: there and back between layouts, every number as it was; what cannot be said is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import gguf
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from dspark_export.checkpoints import DrafterSpec, open_drafter, open_target
from dspark_export.checkpoints.dialects.speculators import SpeculatorsDialect
from tests.support import tiny, tiny_gguf
from tests.support.bad_dflash import SPEC, write_dflash
from tests.support.command_line import run

Change = Callable[[gguf.GGUFWriter], None]
SPECS = {
    "vanilla": tiny.drafter_spec(),
    "no Markov head": tiny.drafter_spec("none"),
    "no confidence head": tiny.drafter_spec(confidence=False),
    "confidence without Markov": tiny.drafter_spec(with_markov=False),
}
KEPT = tuple(range(2, tiny.VOCAB, 2))


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_gguf.write_gguf_target(tmp_path_factory.mktemp("target") / "target.gguf")


def in_half(folder: Path) -> Path:
    """Its matrices in bfloat16, as drafters are released."""
    file = folder / "model.safetensors"
    save_file({k: v.astype(ml_dtypes.bfloat16) if v.ndim > 1 else v for k, v in load_file(file).items()}, file)
    return folder


def reduced(folder: Path, target: Path) -> Path:
    """A drafter of the speculators library with half the vocabulary, and no head of its own."""
    whole = open_drafter(in_half(tiny.write_drafter(folder / "whole")), open_target(target).spec)
    spec = replace(whole.spec, draft_vocabulary=KEPT)
    entries = dict(whole.weights.entries)
    name = "markov_head.markov_w2.weight"
    entries[name] = replace(entries[name], transform=lambda w: w[list(KEPT)], shape=(len(KEPT), tiny.RANK))
    (folder / "reduced").mkdir()
    SpeculatorsDialect().write(
        replace(whole, spec=spec, weights=replace(whole.weights, entries=entries)), folder / "reduced"
    )
    return folder / "reduced"


def convert(capsys: pytest.CaptureFixture[str], drafter: Path, target: Path, layout: str, output: Path) -> Path:
    done = run(capsys, "convert", drafter, "--target", target, "--to", layout, "--output", output)
    assert done.code == 0, done.err
    return output


@pytest.mark.parametrize("through", ["speculators", "gguf"])
@pytest.mark.parametrize("case", SPECS)
def test_deepspec_there_and_back(case: str, through: str, target: Path, tmp_path: Path, capsys) -> None:
    drafter = in_half(tiny.write_drafter(tmp_path / "drafter", SPECS[case]))
    there = convert(capsys, drafter, target, through, tmp_path / "there")
    back = convert(capsys, there, target, "deepspec", tmp_path / "back")
    before, after = (load_file(folder / "model.safetensors") for folder in (drafter, back))
    assert set(before) == set(after)
    for name, array in before.items():
        np.testing.assert_array_equal(after[name], array, err_msg=name)
        assert after[name].dtype == array.dtype


GIVEN = {
    "vanilla": replace(tiny.drafter_spec(), anchor="given"),
    "no heads": SPEC,
    "z-lab's": None,
}


@pytest.mark.parametrize("case", GIVEN)
def test_a_given_anchor_there_and_back(case: str, target: Path, tmp_path: Path, capsys) -> None:
    spec = GIVEN[case]
    folder = tmp_path / "drafter"
    drafter = in_half(write_dflash(folder) if spec is None else tiny.write_drafter(folder, spec))
    there = convert(capsys, drafter, target, "gguf", tmp_path / "there.gguf")
    back = convert(capsys, there, target, "speculators", tmp_path / "back")
    before, after = (open_drafter(path, open_target(target).spec) for path in (drafter, back))
    assert (after.spec.anchor, after.spec.draft_length) == ("given", tiny.BLOCK - 1)
    for name in before.weights:
        np.testing.assert_array_equal(after.weights[name], before.weights[name], err_msg=name)


def test_a_reduced_vocabulary_there_and_back(target: Path, tmp_path: Path, capsys) -> None:
    drafter = reduced(tmp_path, target)
    there = convert(capsys, drafter, target, "gguf", tmp_path / "there.gguf")
    back = convert(capsys, there, target, "speculators", tmp_path / "back")
    before, after = (load_file(folder / "model.safetensors") for folder in (drafter, back))
    assert set(after) - set(before) == {"lm_head.weight"}  # llama.cpp wants it
    for name, array in before.items():
        np.testing.assert_array_equal(after[name], array, err_msg=name)
    head = open_target(target).weights["embed_tokens.weight"][list(KEPT)]
    np.testing.assert_array_equal(after["lm_head.weight"], head)


def test_the_gguf_file_carries_the_target_s_tokenizer(target: Path, tmp_path: Path, capsys) -> None:
    """But for the mask, which is the drafter's own; its ids of layers count one more than ours."""
    written = convert(capsys, tiny.write_drafter(tmp_path / "d"), target, "gguf", tmp_path / "d.gguf")
    ours, theirs = gguf.GGUFReader(written).fields, gguf.GGUFReader(target).fields
    for key, field in theirs.items():
        if key.startswith("tokenizer."):
            assert ours[key].contents() == field.contents(), key
    assert ours["tokenizer.ggml.mask_token_id"].contents() == tiny.drafter_spec().mask_token_id
    assert ours["dflash.target_layers"].contents() == [tap + 1 for tap in tiny.TAPS]


def refused(kind: DrafterSpec | str, layout: str, place: str = "out") -> tuple[DrafterSpec | str, str, str]:
    return kind, layout, place


REFUSED = {
    "a draft vocabulary": (refused("reduced", "deepspec"), "DeepSpec's layout has no draft vocabulary"),
    "a given anchor": (refused(SPEC, "deepspec"), "its blocks predict from the anchor on"),
    "layers that slide": (
        refused(tiny.with_windows(tiny.drafter_spec(), 4, 0), "gguf"),
        "cannot be written in this dial",
    ),
    "an rnn head": (refused(tiny.drafter_spec("rnn"), "gguf"), "a Markov head of kind rnn cannot be written as GGUF"),
    "something is there": (refused(SPECS["vanilla"], "gguf", "."), "already exists"),
    "a directory is there": (refused(SPECS["vanilla"], "speculators", "drafter"), "already exists"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_said_is_refused(case: str, target: Path, tmp_path: Path, capsys) -> None:
    (kind, layout, place), said = REFUSED[case]
    drafter = reduced(tmp_path, target) if isinstance(kind, str) else tiny.write_drafter(tmp_path / "drafter", kind)
    before = sorted(tmp_path.rglob("*"))
    done = run(capsys, "convert", drafter, "--target", target, "--to", layout, "--output", tmp_path / place)
    assert (done.code, said in done.err) == (2, True), done.err
    assert len(done.err.splitlines()) == 2
    assert sorted(tmp_path.rglob("*")) == before


def test_a_directory_s_tokenizer_is_not_written_as_gguf(tiny_pair: tuple[Path, Path], tmp_path: Path, capsys) -> None:
    target, drafter = tiny_pair
    done = run(capsys, "convert", drafter, "--target", target, "--to", "gguf", "--output", tmp_path / "d.gguf")
    assert (done.code, "read from GGUF targets only" in done.err) == (2, True)
    assert not list(tmp_path.iterdir())

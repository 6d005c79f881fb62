"""DeepSpec's config.json is a copy of its target's: which of the keys that came along say anything of the drafter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dspark_engines.errors import CheckpointError
from dspark_export.checkpoints import open_drafter
from tests.support import tiny

ROPE = {"rope_type": "default", "rope_theta": 10000.0}
OF_THE_TARGET: dict[str, dict[str, Any]] = {
    "heads turned in part": {"partial_rotary_factor": 0.25},
    "the same among rope's": {"rope_parameters": ROPE | {"partial_rotary_factor": 0.25}},
    "rope of pictures": {"rope_parameters": ROPE | {"mrope_interleaved": True, "mrope_section": [11, 11, 10]}},
    "windows": {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 0},
    "gates": {"attn_output_gate": True, "output_gate_type": "swish"},
    "linear attention": {"full_attention_interval": 4, "linear_num_key_heads": 16, "linear_conv_kernel_dim": 4},
    "other parts of it": {"text_config": {"hidden_size": 9}, "vision_config": {"depth": 27}},
}


@pytest.mark.parametrize("case", OF_THE_TARGET)
def test_keys_that_came_along_from_the_target_are_not_obeyed(tmp_path: Path, case: str) -> None:
    """Rotated in part, or through a window, a drafter that was trained otherwise drafts badly and says nothing."""
    folder = tiny.write_drafter(tmp_path / "drafter")
    tiny.edit_config(folder, **OF_THE_TARGET[case])
    assert open_drafter(folder, tiny.target_spec()).spec == tiny.drafter_spec()


SCALED = ROPE | {"rope_type": "linear", "factor": 4.0}


def test_scaled_rotation_is_the_drafter_s_own(tmp_path: Path) -> None:
    folder = tiny.write_drafter(tmp_path / "drafter")
    tiny.edit_config(folder, rope_parameters=SCALED)
    rope = open_drafter(folder, tiny.target_spec()).spec.shape.layers[0].rope
    assert (rope.kind, rope.factor) == ("linear", 4.0)


@pytest.mark.parametrize(
    "keys",
    [{"rope_parameters": SCALED | {"partial_rotary_factor": 0.5}}, {"partial_rotary_factor": 0.5}],
    ids=["inside", "beside"],
)
def test_with_it_heads_that_are_turned_in_part_are_refused(tmp_path: Path, keys: dict[str, Any]) -> None:
    folder = tiny.write_drafter(tmp_path / "drafter")
    tiny.edit_config(folder, **{"rope_parameters": SCALED} | keys)
    with pytest.raises(CheckpointError, match="partial_rotary_factor"):
        open_drafter(folder, tiny.target_spec())


@pytest.mark.parametrize("width", [1, 15, 16])
def test_a_block_is_as_wide_as_its_config_says(tmp_path: Path, width: int) -> None:
    """Not always seven, and the first position predicts as well: as many tokens are drafted as there are positions."""
    folder = tiny.write_drafter(tmp_path / "drafter")
    tiny.edit_config(folder, block_size=width)
    spec = open_drafter(folder, tiny.target_spec()).spec
    assert (spec.block_size, spec.draft_length, spec.anchor) == (width, width, "predicts")


def test_a_mask_among_rows_that_the_tokenizer_does_not_fill_is_read(tmp_path: Path) -> None:
    """Embeddings are padded, and masks are made of what is left; a mask beyond them is refused (bad_checkpoints)."""
    folder, last = tiny.write_drafter(tmp_path / "drafter"), tiny.VOCAB - 1
    assert last >= tiny.byte_tokenizer().get_vocab_size()
    tiny.edit_config(folder, mask_token_id=last)
    assert open_drafter(folder, tiny.target_spec()).spec.mask_token_id == last

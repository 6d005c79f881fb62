"""Eagle3 drafters whose config names Llama's class: recognised by one layer and a draft vocabulary."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dspark_engines.errors import CheckpointError
from dspark_export.checkpoints import open_drafter
from dspark_export.checkpoints.dialects import drafter_dialect
from dspark_export.checkpoints.spec import RopeSpec
from tests.support import chains, tiny
from tests.support.published_chains import OSS_YARN

pytestmark = pytest.mark.filterwarnings("ignore:.*eagle_aux_hidden_state_layer_ids is:UserWarning")
LABEL = {"architectures": ["LlamaForCausalLM"], "truncated_vocab_size": len(chains.KEPT)}


def test_it_is_read_as_one_that_has_the_name(tmp_path: Path) -> None:
    named = open_drafter(chains.write_eagle3(tmp_path / "named"), tiny.target_spec())
    folder = chains.write_eagle3(tmp_path / "unnamed", LABEL)
    assert drafter_dialect(folder).name == "Llama-labelled"
    assert open_drafter(folder, tiny.target_spec()).spec == named.spec


def test_yarn_is_the_drafter_s_own(tmp_path: Path) -> None:
    """The one that was published for gpt-oss-20b turns as its target does."""
    rope = {"rope_parameters": None, "rope_scaling": OSS_YARN, "rope_theta": 150000}
    folder = chains.write_eagle3(tmp_path, LABEL | rope)
    found = open_drafter(folder, tiny.target_spec()).spec.shape.layers[0].rope
    factor = pytest.approx(1.3466, abs=1e-4)
    assert found == RopeSpec(150000, "yarn", 32.0, original_max_positions=4096, truncate=False, attention_factor=factor)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (LABEL | {"truncated_vocab_size": 64}, "truncated_vocab_size is 64, and draft_vocab_size 43"),
        (LABEL | {"num_hidden_layers": 2}, r"architectures is \['LlamaForCausalLM'\], not a drafter that this version"),
    ],
)
def test_refused(tmp_path: Path, keys: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        open_drafter(chains.write_eagle3(tmp_path, keys), tiny.target_spec())

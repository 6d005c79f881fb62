"""Targets whose weights lie in the wrong place, or are not what they should be, and paths that are something else."""

from __future__ import annotations

import json
from pathlib import Path

import gguf as library
import numpy as np
from safetensors.numpy import load_file, save_file

from tests.support import tiny
from tests.support.bad_checkpoints import CONFIG, Q_PROJ, WEIGHTS, gguf, put, target
from tests.support.command_line import Case, Place, cut, edit_tensors
from tests.support.tiny_gguf import write_gguf_target

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 98362432\n"
INDEX = f"{WEIGHTS}.index.json"
QWEN2 = {"architectures": ["Qwen2ForCausalLM"]}
GEMMA3 = {"architectures": ["Gemma3ForCausalLM"], "rope_parameters": None}


def index(folder: Path, owners: dict[str, str]) -> None:
    """Rename the weights, and write an index."""
    (folder / WEIGHTS).rename(folder / "all.safetensors")
    (folder / INDEX).write_text(json.dumps({"weight_map": owners}))


def two_shards(folder: Path) -> None:
    """Two shards with one tensor that the index does not name."""
    tensors = load_file(folder / WEIGHTS)
    first, *others = tensors
    (folder / WEIGHTS).unlink()
    extra = {"extra": np.ones(1, np.float32)}
    save_file({first: tensors[first]} | extra, folder / "a.safetensors")
    save_file({name: tensors[name] for name in others} | extra, folder / "b.safetensors")
    owners = {first: "a.safetensors"} | dict.fromkeys(others, "b.safetensors")
    (folder / INDEX).write_text(json.dumps({"weight_map": owners}))


def cut_shard(folder: Path) -> None:
    """The second of two shards, cut short; the first is whole."""
    tensors = load_file(folder / WEIGHTS)
    first, *others = tensors
    (folder / WEIGHTS).unlink()
    save_file({first: tensors[first]}, folder / "a.safetensors")
    save_file({name: tensors[name] for name in others}, folder / "b.safetensors")
    owners = {first: "a.safetensors"} | dict.fromkeys(others, "b.safetensors")
    (folder / INDEX).write_text(json.dumps({"weight_map": owners}))
    cut(folder / "b.safetensors", -4)


def spoil(folder: Path, name: str, value: float) -> None:
    """One bad number."""

    def change(tensors: dict[str, np.ndarray]) -> None:
        array = tensors[name]
        array[(3, 4)[: array.ndim]] = value

    edit_tensors(folder, change)


def mxfp4(folder: Path) -> None:
    """Experts as gpt-oss stores them, without what they are multiplied by."""
    tiny.edit_config(folder, quantization_config={"quant_method": "mxfp4"})
    put("model.layers.0.mlp.experts.down_proj_blocks", np.zeros((2, 3, 1, 16), np.uint8))(folder)


def pickled(place: Place) -> list[str]:
    """The file that torch.save wrote, named itself."""
    return place.build(target=(place.target / WEIGHTS).rename(place.target / "model.bin"))


def swap_bytes(path: Path) -> None:
    """The header of a file for big-endian machines; the library swaps what follows."""
    writer = library.GGUFWriter(path, "llama", endianess=library.GGUFEndian.BIG)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


CASES = {
    "target: a shard is missing": target(
        lambda t: index(t, {"a": "x-1-of-2.safetensors"}),
        "target/x-1-of-2.safetensors: no such file",
    ),
    "target: a shard is cut": target(cut_shard, "target/b.safetensors: not a complete safetensors"),
    "target: index without map": target(
        lambda t: index(t, {}) or (t / f"{WEIGHTS}.index.json").write_text("{}"), "no 'weight_map'"
    ),
    "target: index that leads away": target(
        lambda t: index(t, {"a": "../x.safetensors"}), "names the shard '../x.safetensors'"
    ),
    "target: a shard lacks what the index says": target(
        lambda t: index(t, {"a": "all.safetensors"}), "says that all.safetensors holds tensor a, and it does not"
    ),
    "target: two shards hold what the index does not name": target(
        two_shards, "holds tensor extra, as a.safetensors does, and the index names neither"
    ),
    "target: with and without the prefix": target(
        put("norm.weight", np.ones(48, np.float32)), "holds both tensor norm.weight and model.norm.weight"
    ),
    "target: quantised by what is not read": target(
        lambda t: tiny.edit_config(t, quantization_config={"quant_method": "modelopt", "quant_algo": "NVFP4_SVD"}),
        "target/config.json: quantised by 'modelopt' {'quant_algo': 'NVFP4_SVD'}, which is not read",
    ),
    "target: quantised, says its config alone": target(
        lambda t: tiny.edit_config(t, quantization_config={"quant_method": "modelopt", "quant_algo": "NVFP4"}),
        "target: its config says NVFP4 (modelopt), and no tensor is called ….weight_scale_2",
    ),
    "target: MXFP4 without scales": target(
        mxfp4, "target: layer model.layers.0.mlp.experts.down_proj is stored as MXFP4, and has no scales"
    ),
    "target: not a number": target(
        lambda t: spoil(t, Q_PROJ, np.nan), f"tensor {Q_PROJ} holds nan at [3, 4], 1 such numbers in all"
    ),
    "target: infinite": target(lambda t: spoil(t, "model.norm.weight", np.inf), "model.norm.weight holds inf at [3]"),
    "target: sliding layers": target(
        lambda t: tiny.edit_config(t, layer_types=["sliding_attention"] * tiny.LAYERS),
        "asks for sliding windows, and Llama",
    ),
    "target: sliding layers without a width": target(
        lambda t: tiny.edit_config(t, **QWEN2, layer_types=["sliding_attention"] * tiny.LAYERS),
        "layer_types says that layers slide, and there is no sliding_window",
    ),
    "target: too few layer types": target(
        lambda t: tiny.edit_config(t, **QWEN2, layer_types=["full_attention"]), "layer_types names 1 layers, num_hidden"
    ),
    "target: a softcap that transformers ignores": target(
        lambda t: tiny.edit_config(t, **GEMMA3, attn_logit_softcapping=50.0),
        "attn_logit_softcapping: Input should be None",
    ),
    "target: pictures without text": target(
        lambda t: tiny.edit_config(t, architectures=["Gemma3ForConditionalGeneration"]), "config.json: no 'text_config'"
    ),
    "target: partial rotary": target(
        lambda t: tiny.edit_config(t, partial_rotary_factor=0.5), "partial_rotary_factor: Input should be greater"
    ),
    "target: the weights' file": Case(
        lambda p: p.build(target=p.target / WEIGHTS), "a safetensors file, which holds weights and no description"
    ),
    "target: its config": Case(lambda p: p.build(target=p.target / CONFIG), "config.json: a config"),
    "target: pickled weights": target(
        lambda t: (t / WEIGHTS).rename(t / "pytorch_model.bin"), "pytorch_model.bin holds weights pickled by torch"
    ),
    "target: the pickled file": Case(pickled, "model.bin: weights pickled by torch, which are not read"),
    "target: shards without an index": target(
        lambda t: (t / WEIGHTS).rename(t / "model-00001-of-00002.safetensors"), "no such file, and no index; model-000"
    ),
    "target: an adapter": target(
        lambda t: (t / CONFIG).rename(t / "adapter_config.json"), "target: a LoRA adapter (adapter_config.json)"
    ),
    "target: a folder of GGUF files": target(
        lambda t: (t / CONFIG).rename(t / "model.Q8_0.gguf"), "target: a directory of GGUF files"
    ),
    "target: its maker's layout": target(
        lambda t: (t / CONFIG).rename(t / "params.json"), "target: weights in their maker's own layout"
    ),
    "target: an LFS pointer for the weights": target(
        lambda t: (t / WEIGHTS).write_text(POINTER), f"target/{WEIGHTS}: a Git LFS pointer"
    ),
    "gguf: YaRN without a factor": gguf(
        lambda g: write_gguf_target(g, **{"llama.rope.scaling.type": "yarn"}),
        "model.gguf: llama.rope.scaling.type is 'yarn', and there is no llama.rope.scaling.factor",
    ),
    "gguf: fused projections": gguf(
        lambda g: write_gguf_target(g, extra={"blk.1.attn_qkv.weight": np.zeros((4, 4), np.float32)}),
        "model.gguf: tensor blk.1.attn_qkv.weight holds several projections, which is not supported for 'llama'",
    ),
    "gguf: an LFS pointer": gguf(lambda g: g.write_text(POINTER), "model.gguf: a Git LFS pointer"),
    "gguf: big-endian": gguf(swap_bytes, "model.gguf: a GGUF file for machines of the other byte order"),
}

"""`quantization_config` of config.json: which scheme it means, or why it is none that is read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from dspark_engines.errors import CheckpointError
from dspark_export.checkpoints.config_file import read_json
from dspark_export.checkpoints.quantised.fp4 import CompressedNvfp4, ModelOptNvfp4
from dspark_export.checkpoints.quantised.mxfp4 import Mxfp4
from dspark_export.checkpoints.quantised.packed import Awq, CompressedPacked, Gptq
from dspark_export.checkpoints.quantised.scaled import LineScaled, TileScaled
from dspark_export.checkpoints.quantised.scheme import Scheme

READ = (
    "FP8 in tiles, by line or whole (fp8), compressed-tensors float-quantized, int-quantized, pack-quantized and "
    "nvfp4-pack-quantized, modelopt NVFP4, MXFP4 (gpt-oss), AWQ (gemm), GPTQ, in 4 or 8 bits"
)
BITS = (4, 8)
BESIDE = "hf_quant_config.json"
"""What NVIDIA ModelOpt writes beside config.json; read where that has no `quantization_config`."""
ABOUT = ("format", "quant_algo", "bits", "version")
"""Keys that say which of a method's layouts it is."""


def read_scheme(path: Path, config: dict[str, Any]) -> Scheme | None:
    """The scheme of the config.json at `path`; None where nothing is quantised. Raises `CheckpointError`."""
    said = config.get("quantization_config") or config.get("compression_config") or _beside(path)
    if not said:
        return None
    said = said if isinstance(said, dict) else {"quant_method": said}
    method = said.get("quant_method")
    scheme = READERS[method](said) if isinstance(method, str) and method in READERS else None
    if scheme is None:
        about = {key: said[key] for key in ABOUT if key in said} or ""
        raise CheckpointError(
            f"{path}: quantised by {method!r:.40} {about}".rstrip() + ", which is not read",
            hint=f"read are: {READ}; or take the unquantised checkpoint",
        )
    return scheme


def _beside(path: Path) -> dict[str, Any] | None:
    """What `BESIDE` says of the weights, as `quantization_config` would. Raises `CheckpointError`."""
    beside = path.with_name(BESIDE)
    if not beside.exists():
        return None
    said = read_json(beside).get("quantization")
    if not isinstance(said, dict):
        raise CheckpointError(f"{beside}: no 'quantization'", hint="fetch the file again")
    return {"quant_method": "modelopt", **said} if said.get("quant_algo") else None


def _fp8(said: dict[str, Any]) -> Scheme | None:
    tile = said.get("weight_block_size")
    if isinstance(tile, list) and len(tile) == 2 and all(isinstance(size, int) and size > 0 for size in tile):
        return TileScaled((tile[0], tile[1]))
    return LineScaled("FP8") if tile is None else None


def _compressed(said: dict[str, Any]) -> Scheme | None:
    kinds: dict[str, Scheme] = {
        "float-quantized": LineScaled("FP8"),
        "int-quantized": LineScaled("INT8"),
        "nvfp4-pack-quantized": CompressedNvfp4(),
    }
    form = str(said.get("format"))
    if form in kinds:
        return kinds[form]
    groups = said.get("config_groups")
    bits = [_bits_of(group) for group in groups.values()] if isinstance(groups, dict) else []
    if form == "pack-quantized" and bits and bits == [bits[0]] * len(bits) and bits[0] in BITS:
        return CompressedPacked(bits[0])
    return None


def _bits_of(group: Any) -> Any:
    """`num_bits` of a group's weights; None where it has none."""
    weights = group.get("weights") if isinstance(group, dict) else None
    return weights.get("num_bits") if isinstance(weights, dict) else None


def _awq(said: dict[str, Any]) -> Scheme | None:
    plain = str(said.get("version", "gemm")).lower() == "gemm" and said.get("zero_point", True)
    return Awq(4, "AWQ") if plain and said.get("bits", said.get("w_bit")) == 4 else None


def _gptq(said: dict[str, Any]) -> Scheme | None:
    form, bits = said.get("checkpoint_format", "gptq"), said.get("bits")
    return Gptq(bits, first_format=form == "gptq") if bits in BITS and form in ("gptq", "gptq_v2") else None


def _modelopt(said: dict[str, Any]) -> Scheme | None:
    return ModelOptNvfp4() if said.get("quant_algo") == "NVFP4" else None


def _mxfp4(said: dict[str, Any]) -> Scheme | None:
    del said
    return Mxfp4()


READERS: dict[str, Callable[[dict[str, Any]], Scheme | None]] = {
    "fp8": _fp8,
    "compressed-tensors": _compressed,
    "awq": _awq,
    "gptq": _gptq,
    "modelopt": _modelopt,
    "mxfp4": _mxfp4,
}
"""By `quant_method`: the scheme that a config means, None where it is none that is read."""

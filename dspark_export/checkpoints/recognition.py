"""What a path really is, where it is not what a reader expects: each kind gets the advice that fits it."""

from __future__ import annotations

from pathlib import Path

from dspark_engines.errors import CheckpointError

LFS_POINTER = b"version https://git-lfs.github.com/spec/"
GGUF_MAGIC = b"GGUF"
ZIP_MAGIC = b"PK\x03\x04"
SAFETENSORS_HEADER = 8
"""Bytes of a safetensors file in front of its JSON header."""
LARGEST_HEADER = 100 << 20
PICKLED = (".bin", ".pt", ".pth", ".ckpt")
CONVERT_PICKLED = "save it as safetensors: AutoModelForCausalLM.from_pretrained(…).save_pretrained(…)"


def check_target_path(path: Path) -> None:
    """Raises `CheckpointError` where `path` is no GGUF file and no directory with config.json, saying what it is."""
    if path.is_dir():
        check_directory(path)
        return
    if not path.exists():
        raise CheckpointError(
            f"{path}: no such file or directory", hint="--target takes a .gguf file or a Hugging Face directory"
        )
    start = _start(path)
    _check_pointer(path, start)
    if start[:4] in (GGUF_MAGIC, GGUF_MAGIC[::-1]):
        return
    if path.suffix in PICKLED or start[:4] == ZIP_MAGIC:
        raise CheckpointError(f"{path}: weights pickled by torch, which are not read", hint=CONVERT_PICKLED)
    if path.suffix == ".safetensors" or _is_safetensors(start):
        raise CheckpointError(
            f"{path}: a safetensors file, which holds weights and no description of the model",
            hint=f"pass its directory, with config.json in it: {path.parent}",
        )
    if path.name == "config.json":
        raise CheckpointError(f"{path}: a config", hint=f"pass its directory: {path.parent}")


def check_directory(path: Path) -> None:
    """Raises `CheckpointError` for a directory without config.json, saying what it holds."""
    if (path / "config.json").exists():
        return
    if (path / "adapter_config.json").exists():
        raise CheckpointError(
            f"{path}: a LoRA adapter (adapter_config.json), not a model",
            hint="merge it into its model first: PeftModel.merge_and_unload(), then save_pretrained()",
        )
    files = sorted(path.glob("*.gguf"))
    if files:
        more = f" (or one of {len(files) - 1} others)" if len(files) > 1 else ""
        raise CheckpointError(f"{path}: a directory of GGUF files", hint=f"pass the file itself: {files[0]}{more}")
    if (path / "params.json").exists():
        raise CheckpointError(
            f"{path}: weights in their maker's own layout (params.json)",
            hint="fetch the Hugging Face version of the model, with config.json",
        )


def check_weights_file(path: Path) -> None:
    """Raises `CheckpointError` where a safetensors file is missing or a pointer to it, saying what is there instead."""
    if path.exists():
        _check_pointer(path, _start(path))
        return
    folder = path.parent
    pickled = sorted(file.name for file in folder.glob("*") if file.suffix in PICKLED)
    if pickled:
        raise CheckpointError(
            f"{path}: no such file; {pickled[0]} holds weights pickled by torch, which are not read",
            hint=CONVERT_PICKLED,
        )
    others = sorted(file.name for file in folder.glob("*.safetensors"))
    if others and path.name == "model.safetensors":
        raise CheckpointError(
            f"{path}: no such file, and no index; {others[0]} is there",
            hint="rename a single file to model.safetensors; shards need model.safetensors.index.json",
        )
    raise CheckpointError(f"{path}: no such file", hint="the weights must lie beside config.json as safetensors")


def _check_pointer(path: Path, start: bytes) -> None:
    if start.startswith(LFS_POINTER):
        raise CheckpointError(
            f"{path}: a Git LFS pointer, not the file itself", hint="fetch the file: git lfs pull, or hf download"
        )


def _start(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(64)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}", hint="check its permissions") from None


def _is_safetensors(start: bytes) -> bool:
    size = int.from_bytes(start[:SAFETENSORS_HEADER], "little")
    return 0 < size < LARGEST_HEADER and start[SAFETENSORS_HEADER : SAFETENSORS_HEADER + 1] == b"{"

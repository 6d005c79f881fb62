"""llama.cpp's plain greedy decoding of a bundle's target, to stand beside ours."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any

from dspark_engines.bundle import Manifest, record_file
from dspark_engines.errors import DsparkError


class LlamaCpp:
    """The GGUF file that the bundle's target was read from, opened by `llama-cpp-python`.

    Raises `DsparkError` when the package is not installed, or when the file is not that target.
    """

    def __init__(self, path: Path, manifest: Manifest, threads: int) -> None:
        library: Any = _library()
        if not path.is_file() or [record_file(path, path.parent)] != manifest.target.files:
            raise DsparkError(
                f"{path}: not the GGUF file that this bundle's target was read from",
                hint="pass the file that was given to --target at the build",
            )
        threads = threads or len(os.sched_getaffinity(0))
        self._eos = set(manifest.target.eos_token_ids)
        self._model = library.Llama(
            model_path=str(path),
            n_ctx=manifest.limits.context_length,
            n_threads=threads,
            n_threads_batch=threads,
            verbose=False,
        )

    def tokens_per_second(self, prompt: Sequence[int], max_new_tokens: int) -> float:
        """Tokens after the first over the time they took, as `GenerationResult` counts; 0 without a second one."""
        self._model.reset()
        arrivals = []
        for token in islice(self._model.generate(list(prompt), temp=0.0, repeat_penalty=1.0), max_new_tokens):
            arrivals.append(time.perf_counter())
            if token in self._eos:
                break
        return (len(arrivals) - 1) / (arrivals[-1] - arrivals[0]) if len(arrivals) > 1 else 0.0


def _library() -> Any:
    try:
        return import_module("llama_cpp")
    except ModuleNotFoundError:
        raise DsparkError(
            "--llama-cpp needs the package 'llama-cpp-python', which is not installed",
            hint="pip install llama-cpp-python (it compiles llama.cpp: some minutes and a C++ compiler)",
        ) from None

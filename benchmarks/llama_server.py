"""llama.cpp's server as a contestant of `peers.py`: greedy answers to token ids, with its own timings."""

from __future__ import annotations

import json
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dspark_engines.errors import DsparkError

START_SECONDS = 120


class Answer(NamedTuple):
    """What one prompt got: its tokens, seconds from the first of them to the last, and rounds in that time."""

    token_ids: list[int]
    seconds: float
    rounds: int

    @property
    def tokens_per_second(self) -> float:
        return (len(self.token_ids) - 1) / self.seconds if self.seconds else 0.0

    @property
    def accepted_length(self) -> float:
        """Tokens a round, the target's own included; 1 in plain decoding."""
        return (len(self.token_ids) - 1) / max(1, self.rounds)


class DraftSetting(NamedTuple):
    """A drafter for llama.cpp, how many tokens it drafts at most, and below which probability it stops."""

    model: Path
    most: int
    least_probability: float

    def arguments(self) -> list[str]:
        """As llama-server takes them."""
        lengths = ["--spec-draft-n-max", str(self.most), "--spec-draft-p-min", str(self.least_probability)]
        return ["--spec-type", "draft-dspark", "--spec-draft-model", str(self.model), *lengths]


class LlamaServer:
    """One server process on this machine, for the duration of a `with` block. One request at a time."""

    def __init__(
        self, program: Path, model: Path, context: int, threads: int, drafting: DraftSetting | None = None
    ) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self._address = f"http://127.0.0.1:{port}"
        self._log = tempfile.TemporaryFile()  # noqa: SIM115
        command = [str(program), "--model", str(model), "--host", "127.0.0.1", "--port", str(port), "--parallel", "1"]
        command += ["--ctx-size", str(context), "--threads", str(threads), "--threads-batch", str(threads)]
        command += drafting.arguments() if drafting else []
        try:
            self._process = subprocess.Popen(command, stdout=self._log, stderr=self._log)
        except OSError as error:
            raise DsparkError(f"{program}: {error.strerror}", hint="--llama-server takes llama.cpp's server") from error

    def __enter__(self) -> LlamaServer:
        """Wait until the model is loaded. Raises `DsparkError` when the server ends instead."""
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end and self._process.poll() is None:
            try:
                self._ask("/health")
                return self
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.2)
        self._log.seek(0)
        said = self._log.read().decode(errors="replace").strip().splitlines()[-3:]
        self.__exit__()
        raise DsparkError("llama-server did not start: " + " / ".join(said), hint="run the same command by hand")

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._log.close()

    def answer(self, prompt: Sequence[int], tokens: int) -> Answer:
        """Greedy, with nothing kept from prompts before."""
        wanted = {"prompt": list(prompt), "n_predict": tokens, "temperature": 0.0, "return_tokens": True}
        reply = self._ask("/completion", wanted | {"cache_prompt": False})
        timings = reply["timings"]
        own = timings["predicted_n"] - 1 - timings.get("draft_n_accepted", 0)
        return Answer(reply["tokens"], timings["predicted_ms"] / 1e3, own)

    def _ask(self, path: str, body: dict[str, Any] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._address + path, data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=600) as reply:
            return json.load(reply)

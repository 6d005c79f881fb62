"""Greedy generation of one request, speculative or plain, on the same engines.

A token's way: prefill computes the prompt's features and the first token, which is the anchor; a round
drafts a block behind the anchor, verifies anchor and block in one step, keeps the accepted prefix and the
target's own next token, which is the next anchor. The features of the kept tokens wait for the next draft.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np

from dspark_calibration import Round
from dspark_engines.backends import Engines, Ints, VerifyOutput
from dspark_engines.bundle import Manifest
from dspark_engines.runtime.accept import accept_greedy
from dspark_engines.runtime.request import GenerationRequest, check_request
from dspark_engines.runtime.result import GenerationResult, first_stop
from dspark_engines.runtime.state import RequestState

NO_DRAFT = np.empty(0, np.int64)


class Generator:
    """Serves one request at a time from opened engines."""

    def __init__(self, engines: Engines, manifest: Manifest) -> None:
        self._verify, self._draft = engines.verify, engines.draft
        self._manifest, self._limits = manifest, manifest.limits
        self._block = manifest.drafter.block_size
        self._eos = frozenset(manifest.target.eos_token_ids)

    def run(self, request: GenerationRequest) -> GenerationResult:
        """Generate to the end. Raises `RequestError` before any work when the bundle cannot serve it."""
        result = self.new_result()
        for _ in self.stream(request, result):
            pass
        return result

    def new_result(self) -> GenerationResult:
        """An empty result for `stream` to fill."""
        return GenerationResult(self._block)

    def stream(self, request: GenerationRequest, result: GenerationResult) -> Iterator[list[int]]:
        """Yield new token ids as rounds finish; `result` is complete when the iterator is exhausted."""
        check_request(request, self._manifest)
        state = RequestState(request, result, self._verify.new_slot(), self._draft.new_slot())
        started = time.perf_counter()
        first = self._prefill(state)
        begun, seconds = time.perf_counter(), result.seconds
        seconds.verify = 0.0  # what prefill spent there is in `prefill`
        yield first
        while not self._finished(state):
            yield self._round(state)
        seconds.prefill = begun - started
        seconds.other = time.perf_counter() - begun - seconds.draft - seconds.verify

    def _prefill(self, state: RequestState) -> list[int]:
        """Run the prompt in chunks; the first token comes out of the last one."""
        ids = np.asarray(state.request.prompt_ids, np.int64)
        chunks = np.split(ids, range(self._limits.prefill_chunk, len(ids), self._limits.prefill_chunk))
        for chunk in chunks:
            last = np.array([len(chunk) - 1])
            output = self._step(state, chunk, last)
            self._keep(state, output, len(chunk))
        return self._commit(state, [int(np.argmax(output.logits[0]))])

    def _round(self, state: RequestState) -> list[int]:
        """Draft, verify, keep what survives; without a draft this is one step of plain decoding."""
        drafts = self._draft_block(state)
        tokens = np.concatenate([[state.anchor], drafts])
        output = self._step(state, tokens, np.arange(len(tokens)))
        accepted, following = accept_greedy(output.logits, drafts)
        produced = [int(token) for token in drafts[:accepted]] + [following]
        produced = produced[: first_stop(produced, self._eos)]
        self._keep(state, output, accepted + 1)
        state.result.rounds.append(Round(len(drafts), min(accepted, len(produced)), len(produced)))
        return self._commit(state, produced)

    def _draft_block(self, state: RequestState) -> Ints:
        """Draft tokens worth verifying: none when plain, no more than may still be produced or cached."""
        room = self._limits.context_length - state.used - 1
        length = min(self._block, state.remaining - 1, room) if state.request.speculate else 0
        if length < 1:
            return NO_DRAFT
        features = state.take_pending()
        output = self._draft.step(
            [state.draft_slot],
            features,
            feature_lengths=np.array([len(features)]),
            used=np.array([state.drafted]),
            anchor_ids=np.array([state.anchor]),
            temperature=np.zeros(1, np.float32),
            uniforms=np.zeros((1, self._block), np.float32),
        )
        state.result.seconds.draft += output.seconds
        state.drafted += len(features)
        return output.draft_ids[0, :length]

    def _step(self, state: RequestState, tokens: Ints, logit_rows: Ints) -> VerifyOutput:
        lengths, used = np.array([len(tokens)]), np.array([state.used])
        output = self._verify.step([state.verify_slot], tokens, lengths, used, logit_rows)
        state.result.seconds.verify += output.seconds
        return output

    def _keep(self, state: RequestState, output: VerifyOutput, count: int) -> None:
        """Advance past the first `count` tokens of the step; the rest is thereby rolled back."""
        state.used += count
        if state.request.speculate:
            state.pending.append(output.features[:count].copy())  # the engine owns its outputs

    def _commit(self, state: RequestState, produced: list[int]) -> list[int]:
        state.result.token_ids.extend(produced)
        state.anchor = produced[-1]
        return produced

    def _finished(self, state: RequestState) -> bool:
        if state.anchor in self._eos:
            state.result.stop = "eos"
        elif state.remaining <= 0:
            state.result.stop = "length"
        elif state.used >= self._limits.context_length:
            state.result.stop = "context"
        else:
            return False
        return True

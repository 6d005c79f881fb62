"""One request in flight: its tokens, its caches, and what the drafter has not seen yet."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from itertools import count

import numpy as np

from dspark_engines.arrays import Floats, Ints
from dspark_engines.backends import Slot
from dspark_engines.errors import GenerationError
from dspark_engines.runtime.request import GenerationRequest
from dspark_engines.runtime.result import GenerationResult
from dspark_engines.runtime.round.clock import RequestClock
from dspark_engines.sampling import SamplingParams

_ids = count()


@dataclass(eq=False)
class RequestState:
    """`used` target cache entries are valid, `drafted` of them are in the drafter's cache as well; the
    features between are pending. Rolling back a round is not advancing `used`."""

    request: GenerationRequest
    result: GenerationResult
    verify_slot: Slot
    draft_slot: Slot
    speculating: bool
    used: int = 0
    drafted: int = 0
    anchor: int = -1
    pending: list[Floats] = field(default_factory=list)
    bad_blocks: int = 0
    """Drafted blocks in a row that held a number that is not finite."""
    failure: GenerationError | None = None
    """Why the request cannot go on."""
    id: int = field(default_factory=lambda: next(_ids))
    """Unique in this process: what a scheduler remembers a request by."""

    def __post_init__(self) -> None:
        self.clock = RequestClock(self.result.seconds)

    @cached_property
    def prompt(self) -> Ints:
        """The prompt, [n] int64."""
        return np.asarray(self.request.prompt_ids, np.int64)

    @property
    def sampling(self) -> SamplingParams:
        """How tokens are drawn."""
        return self.request.sampling

    @property
    def reading(self) -> bool:
        """The prompt is not in the cache yet."""
        return self.used < len(self.prompt)

    @property
    def remaining(self) -> int:
        """Tokens that may still be produced."""
        return self.request.max_new_tokens - len(self.result.token_ids)

    @property
    def unread(self) -> int:
        """Tokens that the target has cached and the drafter has not."""
        return self.used - self.drafted

    @property
    def missed(self) -> int:
        """Tokens behind the prompt that the drafter has not seen."""
        return self.used - max(self.drafted, len(self.prompt))

    def pending_ids(self) -> Ints:
        """The token behind each pending feature's own, [M] int64; the anchor is the last."""
        start, length = self.drafted + 1, len(self.prompt)
        said = self.result.token_ids[max(0, start - length) : self.used + 1 - length]
        return np.concatenate([self.prompt[start:], np.asarray(said, np.int64)])

    def join_pending(self) -> Floats:
        """The features that the drafter has not seen, [M, L*H], in order. They stay until `mark_drafted`."""
        if len(self.pending) > 1:
            self.pending = [np.concatenate(self.pending)]
        return self.pending[0]

    def mark_drafted(self) -> None:
        """The drafter has taken in what was pending."""
        self.drafted += sum(len(part) for part in self.pending)
        self.pending = []

    def stop_speculating(self) -> None:
        """Decode plainly from here on."""
        self.speculating, self.pending = False, []

"""Requests that advance together, and who waits for a place among them."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass, field, replace

from dspark_engines.errors import RequestError
from dspark_engines.runtime.events import Failed, Finished, RequestStream, Tokens
from dspark_engines.runtime.rounds import RoundRunner
from dspark_engines.runtime.state import RequestState


class WaitingRoom:
    """Requests that no cohort has taken yet: bounded, first come first served, shared between threads."""

    def __init__(self, limit: int) -> None:
        self._limit, self._queue = limit, deque[RequestStream]()
        self.changed = threading.Condition()
        self.closed = False
        self.abandoned = False

    def put(self, stream: RequestStream) -> None:
        """Raises `RequestError` at once when the room is full or closed."""
        with self.changed:
            if self.closed:
                raise RequestError("the runtime is closed", hint="submit inside its `with` block")
            if len(self._queue) >= self._limit:
                raise RequestError(
                    f"the queue is full: {self._limit} requests are waiting",
                    hint="try again later, or give the runtime a larger max_queue",
                )
            self._queue.append(stream)
            self.changed.notify_all()

    def take(self) -> RequestStream | None:
        """The longest waiting request, or None."""
        with self.changed:
            return self._queue.popleft() if self._queue else None

    def close(self, *, abandon: bool) -> None:
        """No more requests; threads leave when all is done, or after the current round if it is abandoned."""
        with self.changed:
            self.closed, self.abandoned = True, abandon
            self.changed.notify_all()

    def wait(self) -> bool:
        """Block until there may be work; False when closed and empty."""
        with self.changed:
            while not self._queue and not self.closed:
                self.changed.wait()
            return bool(self._queue)


@dataclass(eq=False)
class Member:
    """One request inside a cohort."""

    stream: RequestStream
    state: RequestState
    joined: float = field(default_factory=time.perf_counter)
    first_token: float = 0.0
    prompt_verify: float = 0.0

    def gained(self, token_ids: list[int]) -> None:
        """Pass new tokens on; what the engine took up to the first of them counts as prefill."""
        if not self.first_token:
            self.first_token = time.perf_counter()
            self.prompt_verify = self.state.result.seconds.verify
        self.stream.put(Tokens(token_ids))


class Cohort:
    """Up to `places` requests that join and leave at any round."""

    def __init__(self, runner: RoundRunner, room: WaitingRoom, places: int) -> None:
        self._runner, self._room, self._places = runner, room, places
        self.members: dict[int, Member] = {}

    def run(self) -> None:
        """Serve until the room is closed and everything is finished. A failure ends all members, with a `Failed`."""
        while self.members or self._room.wait():
            try:
                self._admit()
                if self.members:
                    self.step()
            except Exception as error:  # nobody may wait forever for a thread that died
                self._fail(error)

    def step(self) -> None:
        """One round for all members."""
        self._drop_cancelled()
        states = [member.state for member in self.members.values()]
        if not states:
            return
        for state, token_ids in self._runner.advance(states):
            member = self.members[state.id]
            if token_ids:
                member.gained(token_ids)
            if self._runner.finished(state):
                self._leave(member)

    def _admit(self) -> None:
        while len(self.members) < self._places and (stream := self._room.take()) is not None:
            if stream.cancelled or self._room.abandoned:
                stream.put(Finished(replace(self._runner.new_result(), stop="cancelled")))
                continue
            member = Member(stream, self._runner.start(stream.request))
            self.members[member.state.id] = member

    def _drop_cancelled(self) -> None:
        for member in list(self.members.values()):
            if member.stream.cancelled or self._room.abandoned:
                member.state.result.stop = "cancelled"
                self._leave(member)

    def _leave(self, member: Member) -> None:
        seconds, now = member.state.result.seconds, time.perf_counter()
        first = member.first_token or now
        seconds.prefill, seconds.verify = first - member.joined, seconds.verify - member.prompt_verify
        seconds.other = max(0.0, now - first - seconds.draft - seconds.verify)
        del self.members[member.state.id]
        member.stream.put(Finished(member.state.result))

    def _fail(self, error: Exception) -> None:
        while self.members:
            self.members.popitem()[1].stream.put(Failed(error))

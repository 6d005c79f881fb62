"""Requests that advance together."""

from __future__ import annotations

from dataclasses import dataclass, replace

from dspark_engines.runtime.events import Failed, Finished, RequestStream, Tokens
from dspark_engines.runtime.round.draft_health import LOG
from dspark_engines.runtime.round.runner import RoundRunner
from dspark_engines.runtime.round.state import RequestState
from dspark_engines.runtime.serving.queue import AdmissionQueue


@dataclass(eq=False)
class Member:
    """One request inside a cohort."""

    stream: RequestStream
    state: RequestState


class Cohort:
    """Requests that the queue admits to cohort `number`; they join and leave at any round."""

    def __init__(self, runner: RoundRunner, queue: AdmissionQueue, number: int) -> None:
        self._runner, self._queue, self._number = runner, queue, number
        self.members: dict[int, Member] = {}

    def run(self) -> None:
        """Serve until the queue is closed and everything is finished. A failure ends all members, with a `Failed`."""
        while self.members or self._queue.wait(self._number):
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
            if state.failure is not None:
                self._fail_one(member, state.failure)
                continue
            if token_ids:
                member.stream.put(Tokens(token_ids))
            if self._runner.finished(state):
                self._leave(member)

    def _admit(self) -> None:
        while (stream := self._queue.take(self._number)) is not None:
            if stream.cancelled or self._queue.abandoned:
                self._queue.release(self._number)
                stream.put(Finished(replace(self._runner.new_result(), stop="cancelled")))
                continue
            try:
                member = Member(stream, self._runner.start(stream.request))
            except Exception as error:  # no memory for its caches, say: the others go on
                LOG.error("a request could not be started: %s", error)
                self._queue.release(self._number)
                stream.put(Failed(error))
                continue
            self.members[member.state.id] = member

    def _drop_cancelled(self) -> None:
        for member in list(self.members.values()):
            if member.stream.cancelled or self._queue.abandoned:
                member.state.result.stop = "cancelled"
                self._leave(member)

    def _leave(self, member: Member) -> None:
        member.state.clock.stop()
        del self.members[member.state.id]
        self._queue.release(self._number)
        member.stream.put(Finished(member.state.result))

    def _fail_one(self, member: Member, error: Exception) -> None:
        """End one request, whose caches nobody touches again."""
        LOG.warning("request %d ended with an error: %s", member.state.id, error)
        del self.members[member.state.id]
        self._queue.release(self._number)
        member.stream.put(Failed(error))

    def _fail(self, error: Exception) -> None:
        LOG.error("a step failed, and %d requests with it", len(self.members), exc_info=error)
        while self.members:
            member = self.members.popitem()[1]
            self._queue.release(self._number)
            member.stream.put(Failed(error))

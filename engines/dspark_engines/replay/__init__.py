"""Schedulers replayed over traces: what they would have chosen, cost and gained."""

from dspark_engines.replay.loads import Deployment, plain_throughput
from dspark_engines.replay.outcome import ReplayOutcome
from dspark_engines.replay.run import replay
from dspark_engines.replay.streams import Streams, lay_out

__all__ = ["Deployment", "ReplayOutcome", "Streams", "lay_out", "plain_throughput", "replay"]

"""The sequential Markov head with the confidence head: `dspark::MarkovHead`."""

from dspark_plugins.markov_head.contract import KINDS, MARKOV_HEAD, OUTPUTS, MarkovHeadSpec

__all__ = ["KINDS", "MARKOV_HEAD", "OUTPUTS", "MarkovHeadSpec"]

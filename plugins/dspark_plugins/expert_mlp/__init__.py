"""A mixture of experts' MLP: `dspark::ExpertMlp`."""

from dspark_plugins.expert_mlp.contract import EXPERT_MLP, ExpertMlpSpec

__all__ = ["EXPERT_MLP", "ExpertMlpSpec"]

"""The custom ops of domain `dspark`, a folder each, in all their forms."""

from dspark_plugins.domain import DOMAIN, DOMAIN_VERSION, OPSET

__all__ = ["DOMAIN", "DOMAIN_VERSION", "OPSET"]

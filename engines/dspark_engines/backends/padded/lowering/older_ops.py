"""Graphs that older versions have exported, under today's names of ops."""

from __future__ import annotations

import onnx_ir as ir

from dspark_plugins import DOMAIN
from dspark_plugins.accept import ACCEPT

TODAY = {"Verify": ACCEPT}


def rename_older_ops(model: ir.Model) -> None:
    """Rename nodes and their bodies. `model` is changed."""
    for node in model.graph:
        if node.domain == DOMAIN:
            node.op_type = TODAY.get(node.op_type, node.op_type)
    for key, function in list(model.functions.items()):
        if function.domain == DOMAIN and function.name in TODAY:
            del model.functions[key]
            function.name = TODAY[function.name]
            model.functions[function.identifier()] = function

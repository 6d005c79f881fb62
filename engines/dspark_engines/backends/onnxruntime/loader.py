"""The one place that loads ONNX Runtime.

Its wheels send telemetry and keep a database of it in the home directory, unless `ORT_DISABLE_TELEMETRY` is set before
the library is loaded. Here it is off; `ORT_DISABLE_TELEMETRY=0` in the environment leaves it on.
"""

from __future__ import annotations

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime

__all__ = ["onnxruntime"]

"""Session settings that every session on the CPU shares: engines, references, checks."""

from __future__ import annotations

from dspark_engines.backends.onnxruntime.loader import onnxruntime
from dspark_engines.machine import usable_cores

PRECISE_KERNELS = "session.x64quantprecision"
ERRORS_ONLY = 3


def session_settings(threads: int, *, precise: bool) -> onnxruntime.SessionOptions:
    """Settings for `threads` threads (0: all that this process may use).

    `precise` asks for int8 kernels that do not saturate, where ONNX Runtime knows that its usual ones may.
    """
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads or usable_cores()
    settings.inter_op_num_threads = 1
    settings.log_severity_level = ERRORS_ONLY
    settings.add_session_config_entry(PRECISE_KERNELS, str(int(precise)))
    return settings

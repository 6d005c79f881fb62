"""Inference sessions: options, threads, where the external weights are."""

from __future__ import annotations

from dspark_engines.backends.onnxruntime.loader import onnxruntime
from dspark_engines.backends.onnxruntime.self_check import self_check
from dspark_engines.backends.onnxruntime.settings import session_settings
from dspark_engines.backends.options import EngineOptions
from dspark_engines.bundle import Bundle, EngineInfo
from dspark_engines.errors import BackendError

WEIGHTS_FOLDER = "session.model_external_initializers_file_folder_path"
SPINNING = "session.intra_op.allow_spinning"
SPIN_MICROSECONDS = "session.intra_op.spin_duration_us"
STOP_SPINNING = "session.force_spinning_stop"
SHORT_SPIN = 20
"""From one product to the next, mostly: waking a thread takes longer. Shared cores lose 3% to it, with no limit 30%."""


def engine_settings(bundle: Bundle, engine: EngineInfo, options: EngineOptions) -> onnxruntime.SessionOptions:
    """How one engine is opened."""
    precise = bundle.manifest.precision == "int8" and self_check().precise  # float32 need not ask
    settings = session_settings(options.threads, precise=precise)
    settings.add_session_config_entry(SPINNING, "1")
    settings.add_session_config_entry(STOP_SPINNING, "1")  # between runs the cores are another session's
    if not options.spinning:
        settings.add_session_config_entry(SPIN_MICROSECONDS, str(SHORT_SPIN))
    settings.add_session_config_entry(WEIGHTS_FOLDER, str(bundle.file(engine.weights).absolute()))
    return settings


def open_session(bundle: Bundle, engine: EngineInfo, options: EngineOptions) -> onnxruntime.InferenceSession:
    """Load one engine. Raises `BackendError` with ONNX Runtime's own words when it cannot."""
    settings, model = engine_settings(bundle, engine, options), bundle.file(engine.path).read_bytes()
    try:
        return onnxruntime.InferenceSession(model, settings, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime raises a dozen unrelated classes, RuntimeError among them
        raise BackendError(
            f"{bundle.file(engine.path)}: ONNX Runtime {onnxruntime.__version__} cannot load it: "
            f"{str(error).splitlines()[0]:.200}",
            hint="compile the bundle again with this version: dspark-export compile",
        ) from error

"""ONNX Runtime's CUDA provider: TensorRT's lowered graphs, run without TensorRT."""

"""TensorRT and TensorRT-RTX: one code path, two flavours of the library."""

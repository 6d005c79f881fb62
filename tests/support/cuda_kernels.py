"""Which element types the kernels of ONNX Runtime's CUDA provider take, by constraint, for the ops of opset 24.

Of the package onnxruntime-gpu 1.31.1: what its `get_all_opkernel_def` lists under `CUDAExecutionProvider`. Of the ops
that lowered graphs use, and of the types that they could.
"""

from __future__ import annotations

KERNELS: dict[str, dict[str, str]] = {
    "Add": {"T": "f32 f16 bf16 i64 i32"},
    "And": {"T": "bool"},
    "ArgMax": {"T": "f32 f16"},
    "Attention": {"T1": "f32 f16 bf16", "T2": "f32 f16 bf16", "U": "f32 f16 bf16 bool"},
    "Cast": {"T1": "f32 f16 bf16 i64 i32 bool"},
    "Concat": {"T": "f32 f16 bf16 i64 i32 bool"},
    "CumSum": {"T": "f32 f16 i64 i32", "T2": "i64 i32"},
    "Div": {"T": "f32 f16 bf16 i64 i32"},
    "Exp": {"T": "f32 f16 bf16"},
    "Expand": {"T": "f32 f16 bf16 i64 i32 bool"},
    "Gather": {"T": "f32 f16 bf16 i64 i32 bool", "Tind": "i64 i32"},
    "GatherND": {"T": "f32 f16 bf16 i64 bool"},
    "Gemm": {"T": "f32 f16 bf16"},
    "Greater": {"T": "f32 f16 i64 i32"},
    "Identity": {"V": "f32 f16 bf16 i64 i32 bool"},
    "Less": {"T": "f32 f16 i64 i32"},
    "LessOrEqual": {"T": "f32 f16 i64 i32"},
    "MatMul": {"T": "f32 f16 bf16"},
    "Max": {"T": "f32 f16 bf16 i64 i32"},
    "Min": {"T": "f32 f16 bf16 i64 i32"},
    "Mul": {"T": "f32 f16 bf16 i64 i32"},
    "Pad": {"T": "f32 f16 bool"},
    "RMSNormalization": {"T": "f32 f16 bf16", "V": "f32 f16 bf16"},
    "ReduceMax": {"T": "f32 f16 i64 i32"},
    "ReduceSum": {"T": "f32 f16 bf16 i64 i32"},
    "Reshape": {"T": "f32 f16 bf16 i64 i32 bool"},
    "RotaryEmbedding": {"M": "i64", "T": "f32 f16 bf16"},
    "Shape": {"T": "f32 f16 bf16 i64 i32 bool"},
    "Sigmoid": {"T": "f32 f16 bf16"},
    "Slice": {"T": "f32 f16 bf16 i64 i32 bool", "Tind": "i64 i32"},
    "Split": {"T": "f32 f16 bf16 i64 i32 bool"},
    "Squeeze": {"T": "f32 f16 bf16 i64 i32 bool"},
    "Sub": {"T": "f32 f16 bf16 i64 i32"},
    "Tanh": {"T": "f32 f16 bf16"},
    "TensorScatter": {"T": "f32 f16 bf16 i64 i32 bool"},
    "Transpose": {"T": "f32 f16 bf16 i64 i32 bool"},
    "Unsqueeze": {"T": "f32 f16 bf16 i64 i32 bool"},
    "Where": {"B": "bool", "T": "f32 f16 bf16 i64 i32"},
}

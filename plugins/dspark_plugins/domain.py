"""Names that every form of the custom ops shares."""

DOMAIN = "dspark"
"""ONNX domain of the custom ops; the bodies are model-local functions of this domain."""

DOMAIN_VERSION = 1
"""Version of that domain; a bundle records it through its graphs' opset imports."""

OPSET = 24
"""Version of the standard operators in which the function bodies are written."""

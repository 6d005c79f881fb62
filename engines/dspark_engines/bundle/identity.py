"""One hash for what a bundle computes: graphs, weights, text handling and the engines of one backend."""

from __future__ import annotations

import hashlib

from dspark_engines.bundle.manifest import Manifest


def engine_identity(manifest: Manifest, backend: str) -> str:
    """sha256 over path and sha256 of every file that decides what `backend` generates from a prompt.

    The machine is no part of it: two machines with copies of one bundle may share what was measured on it.
    """
    prefixes = ("onnx/", "tokenizer/", f"engines/{backend}/")
    digest = hashlib.sha256()
    for record in sorted(manifest.files, key=lambda record: record.path):
        if record.path.startswith(prefixes):
            digest.update(f"{record.path}\0{record.sha256}\n".encode())
    return digest.hexdigest()

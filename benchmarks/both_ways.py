"""Runtimes that decode plainly and by default, on the same opened engines.

Two sets of engines of one bundle are not equally fast: of sessions opened one after the other, the first took 4 to 8%
longer a step than the last, on one thread as on two. So what is compared shares one set, and takes turns on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace

from dspark_engines import Bundle, Runtime, RuntimeOptions
from dspark_engines.backends import EngineOptions
from dspark_engines.runtime.serving.plan import Speculation


def open_runtimes(bundle: Bundle, threads: int, others: Sequence[Speculation], stack: ExitStack) -> list[Runtime]:
    """The default runtime and `others`, for one request at a time, until `stack` closes; they are to take turns."""
    options = RuntimeOptions(engines=EngineOptions(threads), max_batch=1)
    default = stack.enter_context(Runtime(bundle, options))
    return [default] + [
        stack.enter_context(Runtime(bundle, replace(options, speculation=speculation), engines=default.engines))
        for speculation in others
    ]

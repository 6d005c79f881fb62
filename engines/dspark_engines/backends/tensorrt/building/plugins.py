"""Whether an engine gets plugins, and TensorRT's builder to know them.

They are quickly deployable plugins, compiled ahead of time: the builder takes each kernel's PTX into the engine, so
that a host that runs it needs neither Triton nor these definitions.
"""

from __future__ import annotations

from dspark_engines.backends.tensorrt.flavours import Flavour
from dspark_engines.errors import BackendError

OLDEST_KERNELS = (8, 0)
"""Triton compiles for nothing older."""


def choose_plugins(flavour: Flavour, capability: str, wanted: bool | None) -> bool:
    """Whether to build with plugins: as `wanted`, else where flavour and GPU take them.

    Raises `BackendError` where they are wanted and cannot be had, and names what is not installed.
    """
    fitting = tuple(int(part) for part in capability.split(".")) >= OLDEST_KERNELS
    if wanted and not flavour.plugins:
        raise BackendError(
            f"{flavour.title} takes no plugins, it runs the custom ops by their bodies", hint="leave --plugins out"
        )
    if wanted and not fitting:
        raise BackendError(
            f"no plugin kernels for compute capability {capability}",
            hint=f"leave --plugins out; they need {'.'.join(map(str, OLDEST_KERNELS))} or newer",
        )
    if wanted is False or not flavour.plugins or not fitting:
        return False
    register_plugins(flavour)
    return True


def register_plugins(flavour: Flavour) -> None:
    """Make the builder know our plugins, which must happen before it parses. May be called again.

    Raises `BackendError` where what they need is not installed.
    """
    from dspark_plugins.accept import plugin as verify
    from dspark_plugins.markov_head import plugin as markov_head

    try:
        markov_head.register_plugins()
        verify.register_plugins()
    except ImportError as error:
        raise BackendError(
            f"building with plugins needs the package '{error.name or error}', which is not installed",
            hint=f"pip install 'dspark-export[{flavour.extra},kernels]', or pass --no-plugins",
        ) from None

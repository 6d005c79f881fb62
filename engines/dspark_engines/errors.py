"""The one error tree.

Every error that a user can cause derives from `DsparkError`, says one thing in one line, and carries
a `hint` with the remedy. The command line prints both and exits with 2; anything else is a bug.
"""

from __future__ import annotations

from dspark_calibration.errors import DsparkError

__all__ = [
    "BackendError",
    "BundleError",
    "CheckpointError",
    "DsparkError",
    "GenerationError",
    "OutputError",
    "RequestError",
    "TextError",
]


class CheckpointError(DsparkError):
    """A target or drafter checkpoint is missing, damaged, or not what its config says."""


class BundleError(DsparkError):
    """A bundle is missing a file, was changed, or was written by a newer version."""


class OutputError(DsparkError):
    """The output cannot be written where it was asked for."""


class BackendError(DsparkError):
    """A backend is not installed, or cannot do what was asked of it."""


class RequestError(DsparkError):
    """A generation request is not valid for this bundle."""


class GenerationError(DsparkError):
    """The model gave one request numbers that no token can be chosen from. Other requests are not affected."""


class TextError(DsparkError):
    """A file or standard input is not UTF-8 text, or not the JSON that it should be."""

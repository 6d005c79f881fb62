"""calibration/sts.json of a bundle: read with a check of whose it is, written in one rename."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import NamedTuple

from dspark_calibration import StsCalibration, first_problem
from dspark_calibration.estimator import AcceptanceModel
from dspark_calibration.sts import Scaling
from dspark_engines.bundle import Bundle, engine_identity, save_model
from dspark_engines.errors import BundleError, TextError
from dspark_engines.measured.prior import DraftPrior
from dspark_engines.text_file import parse_json, read_text

STS = "calibration/sts.json"


class Confidence(NamedTuple):
    """How confidences are read. `trusted` is False when a calibration is there but is not of these engines: then
    nobody knows what a confidence means, and schedulers that read them verify whole blocks instead."""

    scaling: Scaling | None
    trusted: bool
    prior: DraftPrior | None = None
    estimator: AcceptanceModel | None = None
    """What estimates confidences at first, for drafters without a confidence head."""


def load_confidence(bundle: Bundle, backend: str) -> Confidence:
    """The bundle's calibration. Without a calibration confidences are taken as they are; one that is damaged, of
    other engines or of another block size is ignored with a warning."""
    path = bundle.file(STS)
    if not path.is_file():
        return Confidence(None, True)
    try:
        found = read_sts(bundle)
    except BundleError as error:
        problem = str(error)
    else:
        if found.bundle != engine_identity(bundle.manifest, backend):
            problem = f"{path} was made for other engines"
        elif found.block_size != bundle.manifest.drafter.block_size:
            problem = f"{path} is for blocks of {found.block_size}"
        elif _names(found) != bundle.manifest.drafter.scores:
            problem = f"{path} is for another kind of confidence"
        else:
            seen = DraftPrior(tuple(found.survival), found.spread) if found.survival else None
            return Confidence(found.scaling, True, seen, found.estimator)
    message = f"{problem}: ignored, whole blocks are verified; run dspark-export calibrate"
    warnings.warn(message, RuntimeWarning, stacklevel=2)
    return Confidence(None, False)


def _names(found: StsCalibration) -> list[str]:
    return [] if found.estimator is None else found.estimator.scores


def read_sts(bundle: Bundle) -> StsCalibration:
    """The bundle's calibration as it is stored. Raises `BundleError` when it is missing or damaged."""
    path = bundle.file(STS)
    try:
        return StsCalibration.model_validate(parse_json(read_text(path)))
    except FileNotFoundError:
        raise BundleError(f"{bundle.path}: not calibrated", hint="run dspark-export calibrate first") from None
    except (OSError, ValueError, TextError) as error:
        reason = first_problem(error)
        raise BundleError(f"{path} is not a calibration ({reason})", hint="run dspark-export calibrate again") from None


def save_sts(calibration: StsCalibration, bundle: Bundle) -> Path:
    """Write the calibration into the bundle, in one rename."""
    return save_model(calibration, bundle.file(STS))

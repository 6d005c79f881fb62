"""Measurements in a bundle: read with a check of where they were taken, or ignored with a warning."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict

from dspark_calibration import first_problem
from dspark_engines.errors import TextError
from dspark_engines.measured.fingerprint import Fingerprint
from dspark_engines.text_file import parse_json, read_text


class Measured(BaseModel):
    """A file (schema version 1) that belongs to one machine and one set of engines."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1] = 1
    fingerprint: Fingerprint


M = TypeVar("M", bound=Measured)


def load_measured(path: Path, kind: type[M], title: str, here: Fingerprint) -> M | None:
    """The file as a `kind`, or None with a warning when it is unreadable, no `title`, or was measured elsewhere."""
    try:
        found = kind.model_validate(parse_json(read_text(path)))
    except (OSError, ValueError, TextError) as error:
        message = f"{path} is not a {title} ({first_problem(error)}): ignored"
        warnings.warn(message, RuntimeWarning, stacklevel=3)
        return None
    different = found.fingerprint.differences(here)
    if different:
        message = f"{path} was measured elsewhere ({', '.join(different)} differ): ignored; run dspark-export profile"
        warnings.warn(message, RuntimeWarning, stacklevel=3)
        return None
    return found

"""The kinds of drafters by name."""

from __future__ import annotations

from training.drafter import Drafter
from training.eagle3 import Eagle3Drafter
from training.mtp import MtpDrafter

KINDS: dict[str, type[Drafter]] = {kind.kind: kind for kind in (Eagle3Drafter, MtpDrafter)}

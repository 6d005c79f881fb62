"""The kinds of drafters by name."""

from __future__ import annotations

from training.block import DFlashDrafter
from training.drafter import Drafter
from training.dspark import DSparkDrafter
from training.eagle3 import Eagle3Drafter
from training.mtp import MtpDrafter

KINDS: dict[str, type[Drafter]] = {
    kind.kind: kind for kind in (DSparkDrafter, DFlashDrafter, Eagle3Drafter, MtpDrafter)
}

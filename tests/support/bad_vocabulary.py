"""Draft vocabularies that must be refused, each with what the error's line says."""

from __future__ import annotations

import json
from typing import Any

from dspark_export.checkpoints import reduction
from dspark_export.vocabulary import choosing
from tests.support import tiny
from tests.support.command_line import Case, Place


def counted(option: str, fragment: str, *, prompts: int = 0, smallest: int = 8, command: str = "build") -> Case:
    """--draft-vocabulary as it is given, with so many prompts to count on."""

    def prepare(place: Place) -> list[str]:
        place.patch.setattr(reduction, "SMALLEST", smallest)
        options: dict[str, Any] = {"draft_vocabulary": option, "max_new_tokens": 4}
        if prompts:
            path = place.root / "prompts.jsonl"
            path.write_text("".join(json.dumps({"prompt": f"w{n}"}) + "\n" for n in range(prompts)))
            options |= {"prompts": path, "no_calibrate": True}
        if command == "export":
            del options["max_new_tokens"]
        return [command, *place.build(**options)[1:]]

    return prepare, fragment


def listed(text: str, fragment: str) -> Case:
    """--draft-vocabulary FILE."""

    def prepare(place: Place) -> list[str]:
        place.patch.setattr(reduction, "SMALLEST", 8)
        path = place.root / "ids"
        path.write_text(text)
        return place.build(draft_vocabulary=path)

    return prepare, fragment


def too_little(place: Place) -> list[str]:
    """Nothing is covered as well as that."""
    place.patch.setattr(choosing, "LEAST_COVERAGE", 1.1)
    return counted("64", "", prompts=4)[0](place)


ENOUGH = list(range(0, 64))
VOCABULARY: dict[str, Case] = {
    "vocabulary: larger than the target's": counted("129", "a draft vocabulary of 129 tokens", prompts=1),
    "vocabulary: too small to be one": counted("100", "a draft vocabulary of 100 tokens", prompts=1, smallest=256),
    "vocabulary: nothing to count on": counted("64", "--draft-vocabulary 64: nothing to count on"),
    "vocabulary: export counts nothing": counted("64", "nothing to count on", command="export"),
    "vocabulary: too few prompts": (too_little, "--draft-vocabulary 64: counted on 4 prompts it covers "),
    "vocabulary: no such file": counted("none.json", "--draft-vocabulary none.json: No such file"),
    "vocabulary: an id outside": listed(
        json.dumps([*ENOUGH, tiny.VOCAB]), "token id 128 lies outside the vocabulary of 128"
    ),
    "vocabulary: an id below": listed(json.dumps([-1, *ENOUGH]), "token id -1 lies outside the vocabulary of 128"),
    "vocabulary: an id twice": listed("\n".join(map(str, [*ENOUGH, 7])), "token id 7 is there twice"),
    "vocabulary: a short list": listed("[1, 2, 3]", "a draft vocabulary of 3 tokens"),
    "vocabulary: words": listed("the a of", "ids: not a list of token ids"),
    "vocabulary: fractions": listed("[1, 2.5]", "ids: not a list of token ids"),
    "vocabulary: half a list": listed("[1, 2", "ids: not a list of token ids"),
}

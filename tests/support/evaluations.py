"""Evaluations by hand: records whose figures can be worked out on paper, and a whole one for the page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dspark_engines import SamplingParams
from dspark_engines.bundle import NO_DRAFTER, Bundle, Manifest, TargetInfo
from dspark_export.evaluating.answers import Answer
from dspark_export.evaluating.conditions import Conditions, WayConditions
from dspark_export.evaluating.layout import Question
from dspark_export.evaluating.plan import EvalPlan
from dspark_export.evaluating.records import Parting, Record, RecordStore, Seconds
from dspark_export.evaluating.schema import Evaluation
from dspark_export.evaluating.summary import summarise
from dspark_export.evaluating.ways import CONTROL, PLAIN, Mode, Way
from dspark_export.prompts import Prompt

BLOCK = 4
PLAIN_SECONDS = 10.0
HARD = "<script>alert"
"""A source whose name must be escaped."""


def question(number: int, source: str = "gsm8k") -> Question:
    """One whose answer is its number."""
    return Question(Prompt(f"{source}/{number}", source, f"What is {number}?", "x"), Answer("number", (str(number),)))


def record(
    question: Question,
    way: str,
    rounds: Sequence[tuple[int, int, int]],
    seconds: float,
    mode: Mode = "greedy",
    parting: Parting | None = None,
) -> Record:
    """One prompt's record: the rounds as (proposed, accepted, produced), after the first token, in so many seconds."""
    count = 1 + sum(produced for _, _, produced in rounds)
    return Record(
        prompt=question.prompt.id,
        source=question.prompt.source,
        way=way,
        mode=mode,
        token_ids=list(range(count)),
        text=f"It is {question.prompt.id.rpartition('/')[2]}",
        stop="length",
        rounds=list(rounds),
        seconds=Seconds(prefill=0.1, draft=0.25 * seconds, verify=0.5 * seconds, other=0.25 * seconds),
        parting=parting,
    )


def plain_record(question: Question, tokens: int = 20, way: str = PLAIN, mode: Mode = "greedy") -> Record:
    """`tokens` after the first, one a round."""
    return record(question, way, [(0, 0, 1)] * tokens, PLAIN_SECONDS, mode)


def ways(*drafters: str) -> list[Way]:
    """Plain decoding twice, and drafters."""
    bundle = Bundle(Path("made-up"), _manifest())
    rest = [(name, "drafter", name) for name in drafters]
    return [
        Way(name=name, role=role, bundle=bundle, drafter=drafter, place=0, identity="a" * 64)
        for name, role, drafter in [(PLAIN, "plain", "none"), (CONTROL, "control", "none"), *rest]
    ]


def _manifest() -> Manifest:
    """As much of one as the summary reads."""
    return Manifest.model_construct(
        precision="fp32",
        target=TargetInfo.model_construct(name="a-target", files=[]),
        drafter=NO_DRAFTER.model_copy(update={"name": "a-drafter", "method": "dspark", "block_size": BLOCK}),
    )


def conditions(*drafters: str, measured: Sequence[str] = ()) -> Conditions:
    """What `ways` and the options' defaults come to; costs are known for `measured`."""
    return Conditions(
        prompts_sha256="b" * 64,
        max_new_tokens=64,
        temperature=0.0,
        top_k=0,
        top_p=1.0,
        min_p=0.0,
        seed=0,
        scheduler="auto",
        backend="onnxruntime",
        backend_version="1",
        cpu="x",
        cores=2,
        threads=2,
        ways=[
            WayConditions(
                name=way.name,
                drafter=way.drafter,
                bundle=way.identity,
                plan="whole blocks",
                measured=way.name in measured,
            )
            for way in ways(*drafters)
        ],
    )


def sample_evaluation(prompts: int = 12, parting: Parting | None = None, *, sampled: bool = False) -> Evaluation:
    """Two drafters on prompts of two sources: "good" has rounds of 5 tokens in a quarter of plain decoding's time,
    "poor" rounds of 2 in as much time as plain decoding. `parting`: where the good one's first output leaves it."""
    chosen, questions = ways("good", "poor"), [question(n, ("gsm8k", HARD)[n % 2]) for n in range(prompts)]
    store = RecordStore(conditions("good", "poor"))
    plan = EvalPlan(sampling=SamplingParams(0.7 if sampled else 0.0))
    for mode in plan.modes:
        for number, asked in enumerate(questions):
            store.add([plain_record(asked, mode=mode), plain_record(asked, way=CONTROL, mode=mode)])
            where = parting if not number and mode == "greedy" else None
            store.add([record(asked, "good", [(4, 4, 5)] * 4, PLAIN_SECONDS / 4, mode, where)])
            drift = 1.1 if number % 2 else 0.9
            store.add([record(asked, "poor", [(4, 1, 2)] * 10, PLAIN_SECONDS * drift, mode)])
    return summarise(store, chosen, questions, plan, accuracy=True)

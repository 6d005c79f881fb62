"""An evaluation from bundles and a prompt set to figures and files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dspark_calibration.report.page import require
from dspark_engines import open_bundle
from dspark_engines.bundle import check_folder, write_file
from dspark_engines.progress import Reporter
from dspark_export.evaluating.conditions import make_conditions
from dspark_export.evaluating.footing import check_footing
from dspark_export.evaluating.layout import Question
from dspark_export.evaluating.layouts import read_questions, require_answers, take_evenly
from dspark_export.evaluating.page import render
from dspark_export.evaluating.plan import EvalPlan
from dspark_export.evaluating.records import RecordStore
from dspark_export.evaluating.run import check_prompts, evaluate
from dspark_export.evaluating.schema import Evaluation
from dspark_export.evaluating.summary import summarise
from dspark_export.evaluating.ways import Way, choose_ways

EVAL_JSON, EVAL_HTML = "eval.json", "eval.html"


@dataclass(frozen=True, kw_only=True)
class EvalSpec:
    """What is compared on what. `drafters` empty: all; `limit` None: all prompts; `output` None: nothing is written."""

    bundles: Sequence[Path]
    prompts: Path
    plan: EvalPlan
    drafters: Sequence[str] = ()
    limit: int | None = None
    accuracy: bool = False
    output: Path | None = None
    overwrite: bool = False


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """Everything that can be wrong beforehand is not."""

    spec: EvalSpec
    ways: Sequence[Way]
    questions: Sequence[Question]
    store: RecordStore

    def run(self, reporter: Reporter) -> tuple[Evaluation, list[Path]]:
        """Run what is not recorded yet, then summarise and write. Raises `DsparkError`; what is recorded stays."""
        evaluate(self.ways, self.questions, self.spec.plan, self.store, reporter)
        reporter.step("resampling")
        evaluation = summarise(self.store, self.ways, self.questions, self.spec.plan, accuracy=self.spec.accuracy)
        return evaluation, self._write(evaluation)

    def _write(self, evaluation: Evaluation) -> list[Path]:
        """eval.json and eval.html beside the records."""
        folder = self.spec.output
        if folder is None or self.store.path is None:
            return []
        text = evaluation.model_dump_json(indent=1) + "\n"
        page = write_file(folder / EVAL_HTML, render(evaluation))
        return [self.store.path, write_file(folder / EVAL_JSON, text), page]


def prepare(spec: EvalSpec) -> Prepared:
    """Open the bundles, read the prompts, begin the records or find them. Raises `DsparkError` before any engine is
    opened: bundles on different footings, unknown drafters or layouts, missing answers, prompts that are too long,
    records under other conditions."""
    plan, bundles = spec.plan, [open_bundle(path) for path in spec.bundles]
    check_footing(bundles, plan.backend)
    ways = choose_ways(bundles, plan.backend, spec.drafters)
    everything = read_questions(spec.prompts)
    questions = take_evenly(everything, spec.limit)
    if spec.accuracy:
        require_answers(questions)
    check_prompts(ways[0], questions)
    conditions = make_conditions(ways, everything, plan)
    if spec.output is None:
        return Prepared(spec=spec, ways=ways, questions=questions, store=RecordStore(conditions))
    require()
    check_folder(spec.output, spec.output)
    store = RecordStore.open(spec.output, conditions, overwrite=spec.overwrite)
    return Prepared(spec=spec, ways=ways, questions=questions, store=store)

"""What a runtime chooses by itself: by what is measured of the bundle here, and never what is slower than plain."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from dspark_engines import Bundle, GenerationRequest, Runtime, RuntimeOptions, open_bundle
from dspark_engines.backends import EngineOptions
from dspark_engines.measured import (
    COST_TABLE,
    CostTable,
    MeasuredDrafting,
    best_length,
    load_cost_table,
    save_cost_table,
    take_fingerprint,
)
from dspark_engines.profiling import measure_quickly
from dspark_engines.progress import Silent
from dspark_engines.runtime.serving.plan import plan_runtime
from dspark_engines.scheduler import FixedSpec
from tests.support.command_line import run
from tests.support.costs import made_up_costs

ONE = EngineOptions(1)
GOOD = MeasuredDrafting(survival=[0.8, 0.6, 0.1, 0.0, 0.0], spread=0.2, rounds=40)
USELESS = MeasuredDrafting(survival=[0.01, 0.0, 0.0, 0.0, 0.0], spread=0.01, rounds=40)
NEAR = MeasuredDrafting(survival=[0.47, 0.0, 0.0, 0.0, 0.0], spread=0.4, rounds=40)
"""0.98 times plain decoding."""


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Bundle:
    return open_bundle(Path(shutil.copytree(tiny_bundle, tmp_path / "bundle")))


def measured(bundle: Bundle, drafting: MeasuredDrafting | None) -> CostTable:
    """Plain steps of 1.2 ms with what surrounds them, draft steps of 0.5, verified tokens of 0.1."""
    table = made_up_costs(bundle, ONE).model_copy(update={"drafting": drafting})
    save_cost_table(table, bundle)
    return table


def test_the_best_length_is_that_of_the_formula(bundle: Bundle) -> None:
    table = measured(bundle, GOOD)
    best = best_length(GOOD.prior, table.step_cost(1, 0), table.draft_seconds(1, 0), table.overhead_seconds)
    gains = [
        (1 + a) * 1.2 / (1.1 + 0.1 * k + 0.5 + 0.1) for k, a in zip(range(1, 6), (0.8, 1.4, 1.5, 1.5, 1.5), strict=True)
    ]
    assert best.length == 2
    assert best.accepted == pytest.approx(1.4)
    assert best.gain == pytest.approx(max(gains))
    assert best.needed == pytest.approx((1.1 + 0.2 + 0.5 + 0.1) / 1.2 - 1)


def test_nothing_measured_is_plain_decoding(bundle: Bundle) -> None:
    plan = plan_runtime(bundle, RuntimeOptions(engines=ONE))
    assert not plan.speculating
    assert plan.reason.startswith("plain decoding: what steps cost on this machine is not measured")
    measured(bundle, None)
    plan = plan_runtime(bundle, RuntimeOptions(engines=ONE))
    assert (plan.speculating, "how many drafts are accepted" in plan.reason) == (False, True)


def test_a_table_of_another_machine_is_plain_decoding(bundle: Bundle) -> None:
    measured(bundle, GOOD)
    with pytest.warns(RuntimeWarning, match="measured elsewhere"):
        plan = plan_runtime(bundle, RuntimeOptions(engines=EngineOptions(3)))
    assert not plan.speculating


def test_what_pays_is_drafted_at_the_best_length(bundle: Bundle) -> None:
    measured(bundle, GOOD)
    plan = plan_runtime(bundle, RuntimeOptions(engines=ONE))
    assert (plan.speculating, plan.scheduler, plan.selective) == (True, FixedSpec(2), True)
    assert plan.prior == GOOD.prior
    assert plan.reason == (
        "drafting (fixed): 2 draft tokens a round bring 1.40 and cost 0.58 tokens, 1.52 times plain decoding expected"
    )


def test_a_useless_drafter_is_not_asked(bundle: Bundle) -> None:
    measured(bundle, USELESS)
    plan = plan_runtime(bundle, RuntimeOptions(engines=ONE))
    assert not plan.speculating
    assert "plain decoding: " in plan.reason
    with Runtime(bundle, RuntimeOptions(engines=ONE)) as runtime:
        (result,) = runtime.generate([GenerationRequest([5, 6, 7], 12)])
    assert (max(r.proposed for r in result.rounds), result.seconds.draft) == (0, 0.0)


def test_what_nearly_pays_is_tried_where_it_pays(bundle: Bundle) -> None:
    measured(bundle, NEAR)
    plan = plan_runtime(bundle, RuntimeOptions(engines=ONE))
    assert (plan.speculating, plan.selective) == (True, True)
    assert "0.98 times plain decoding expected" in plan.reason


@pytest.mark.parametrize(("speculation", "speculating"), [("on", True), ("off", False)])
def test_who_says_what_to_do_is_followed(bundle: Bundle, speculation: str, speculating: bool) -> None:
    for drafting in (None, GOOD, USELESS):
        if drafting is not None:
            measured(bundle, drafting)
        options = RuntimeOptions(engines=ONE, speculation=speculation)  # type: ignore[arg-type]  # a parameter
        plan = plan_runtime(bundle, options)
        assert (plan.speculating, plan.selective) == (speculating, False)


def test_measured_in_seconds_and_read_back(bundle: Bundle) -> None:
    table = measure_quickly(bundle, "onnxruntime", [[5, 6, 7], [9, 10]], Silent())
    assert table.drafting is not None
    assert len(table.drafting.survival) == bundle.manifest.drafter.block_size
    assert table.drafting.rounds > 0
    save_cost_table(table, bundle)
    found = load_cost_table(bundle, take_fingerprint(bundle, "onnxruntime", EngineOptions()))
    assert found == table


def test_build_measures_and_says_what_was_chosen(
    tiny_pair: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target, drafter = tiny_pair
    limits = ("--context-length=96", "--slots=1")
    for name, more in (("with", ()), ("without", ("--no-measure",))):
        outcome = run(
            capsys, "build", "--target", target, "--drafter", drafter, "--output", tmp_path / name, *limits, *more
        )
        assert outcome.code == 0
        assert ("plain decoding" in outcome.out or "drafting (" in outcome.out) == (name == "with")
        assert (tmp_path / name / COST_TABLE).is_file() == (name == "with")
    generated = run(capsys, "generate", tmp_path / "with", "--prompt=hello", "--raw", "--max-new-tokens=4")
    assert "plain decoding" in generated.err or "drafting (" in generated.err


def test_profile_keeps_what_is_known_of_drafts(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    measured(bundle, GOOD)
    arguments = ("--context=8", "--samples=3", "--seconds=0", "--threads=1", "--json")
    assert run(capsys, "profile", bundle.path, *arguments).code == 0
    table = json.loads(bundle.file(COST_TABLE).read_text())
    assert table["drafting"] == GOOD.model_dump()

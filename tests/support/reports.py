"""A report from made-up rounds on a made-up machine, through the same functions as a real one."""

from __future__ import annotations

from dspark_calibration import StsCalibration
from dspark_calibration.report import Deployment, Report, Traces
from dspark_calibration.report.measure import Validation
from dspark_calibration.sts import fit_positions, fit_scaling, fit_sts
from dspark_calibration.sts.file import EceInterval
from dspark_calibration.traces import PromptRef
from dspark_export.calibrating.loads import cost_rows, replay_loads, sources_of_confidence, sweep_thresholds
from dspark_export.calibrating.replay import MeasuredMachine
from dspark_export.calibrating.verdict import caveats, verdict
from tests.support.cost_by_hand import cost_table
from tests.support.rounds import known_rounds

TEMPERATURES = (2.5, 1.8, 0.6)
PER_PROMPT = 20


def calibration(rounds: int, bins: int = 2) -> StsCalibration:
    """Fitted on rounds of which `TEMPERATURES` are the truth."""
    fitted = known_rounds(rounds, TEMPERATURES, seed=1, per_prompt=PER_PROMPT)
    alone, scaling = fit_sts(fitted, 3, bins), fit_scaling(fitted, 3, bins)
    return StsCalibration(
        bundle="a" * 64,
        backend="onnxruntime",
        block_size=3,
        temperatures=list(scaling.temperatures),
        offsets=list(scaling.offsets),
        sts_temperatures=alone,
        low=[0.9 * t for t in alone],
        high=[1.1 * t for t in alone],
        bins=bins,
        fit_rounds=rounds,
        validation_rounds=rounds,
        ece_before=0.1,
        ece_after=0.01,
        expected=[EceInterval(rounds=rounds, low=0.0, high=0.02)],
        prompts_sha256="b" * 64,
        max_new_tokens=128,
        temperature=0.0,
        seed=0,
    )


def sample_report(*, costs: bool = True, rounds: int = 600) -> Report:
    """Half of the prompts from each of two sources, one with a name that must be escaped."""
    held_out, sts = known_rounds(rounds, TEMPERATURES, per_prompt=PER_PROMPT), calibration(rounds)
    prompts = [PromptRef(id=str(i), source="<script>alert" if i % 2 else "gsm8k") for i in range(rounds // PER_PROMPT)]
    machine = MeasuredMachine(cost_table(), 100) if costs else None
    validation = Validation(held_out, sts, fit_positions(held_out, 3, 2), 20)
    forms = sources_of_confidence(held_out, sts.scaling)
    loads = replay_loads(held_out, forms, machine) if machine else []
    ece, positions = validation.ece(), validation.positions()
    traces = Traces(
        prompts=2 * len(prompts),
        fit_prompts=len(prompts),
        validation_prompts=len(prompts),
        rounds=2 * rounds,
        fit_rounds=rounds,
        validation_rounds=rounds,
        cut_rounds=17,
        sources=["gsm8k", "<script>alert"],
        prompts_sha256="b" * 64,
        max_new_tokens=128,
        temperature=0.0,
        seed=0,
    )
    return Report(
        verdict=verdict(loads, ece, traces),
        deployment=deployment(machine),
        traces=traces,
        ece=ece,
        offsets=True,
        positions=positions,
        sources=validation.sources(prompts),
        context=100 if machine else None,
        costs=cost_rows(machine) if machine else [],
        loads=loads,
        sweep=sweep_thresholds(held_out, forms, machine),
        caveats=list(caveats(traces, ece, positions, loads, True)),
        **{
            form: validation.scores(form) for form in ("before", "per_position_scaling", "temperature_scaling", "after")
        },
    )


def deployment(machine: MeasuredMachine | None) -> Deployment:
    """Made up."""
    return Deployment(
        name="a-bundle-with-quite-a-long-name-for-a-narrow-screen",
        bundle="a" * 64,
        created="2026-01-01T00:00:00+00:00",
        target="target.gguf",
        target_sha256="c" * 64,
        drafter="drafter",
        drafter_sha256="d" * 64,
        precision="fp32",
        backend="onnxruntime",
        context_length=2048,
        slots=8,
        block_size=3,
        tools={"dspark-export": "0.1.0", "numpy": "2"},
        machine="x, 1 cores, 1 engine threads" if machine else None,
        recipe="a-recipe.toml" if machine else None,
        recipe_sha256="e" * 64 if machine else None,
    )

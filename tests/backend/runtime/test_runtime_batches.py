"""Requests in company: what they get alone, whatever joins, leaves, fails or is cancelled beside them."""

from __future__ import annotations

import itertools
import json
import random
import threading
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from dspark_engines import DsparkError, GenerationRequest, Generator, Runtime, RuntimeOptions, SamplingParams
from dspark_engines.backends import EngineOptions, get_backend
from dspark_engines.bundle import Bundle, Limits, open_bundle
from dspark_engines.errors import RequestError
from dspark_engines.measured import save_cost_table
from dspark_engines.runtime import Finished, Tokens, run_statistics
from dspark_engines.runtime.serving.pipeline import plan_cohorts
from dspark_engines.runtime.serving.plan import Speculation
from dspark_engines.scheduler import scheduler_names
from dspark_export.bundling import BuildPlan, Silent, build_bundle
from tests.support.costs import made_up_costs

REQUESTS, OPTIONS = 64, EngineOptions(threads=1)


@pytest.fixture(scope="module")
def bundle(tiny_pair: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A tiny bundle for eight requests, with a cost table whose steps get dearer."""
    path = tmp_path_factory.mktemp("batches") / "bundle"
    limits = Limits(context_length=96, prefill_chunk=16, slots=8)
    build_bundle(BuildPlan(*tiny_pair, path, "onnxruntime", limits), Silent())
    opened = open_bundle(path)
    save_cost_table(made_up_costs(opened, OPTIONS), opened)
    return opened


def greedy_requests(seed: int = 0) -> list[GenerationRequest]:
    """Prompts of 1 to 60 tokens, 1 to 36 new tokens; a fifth of them plain."""
    rng = random.Random(seed)
    return [
        GenerationRequest(
            [rng.randrange(4, 100) for _ in range(rng.randrange(1, 61))], rng.randrange(1, 37), rng.random() < 0.8
        )
        for _ in range(REQUESTS)
    ]


@pytest.fixture(scope="module")
def exclusive(bundle: Bundle) -> list[list[int]]:
    """Every request alone and without speculation."""
    with get_backend("onnxruntime").open(bundle, OPTIONS) as engines:
        generator = Generator(engines, bundle.manifest)
        return [generator.run(replace(request, speculate=False)).token_ids for request in greedy_requests()]


def options(max_batch: int, scheduler: str = "fixed") -> RuntimeOptions:
    return RuntimeOptions(engines=OPTIONS, max_batch=max_batch, scheduler=scheduler, speculation="on")


@pytest.mark.parametrize("scheduler", scheduler_names())
@pytest.mark.parametrize("max_batch", [1, 4, 8])
def test_greedy_output_is_that_of_the_request_alone(
    bundle: Bundle, exclusive: list[list[int]], max_batch: int, scheduler: str
) -> None:
    with Runtime(bundle, options(max_batch, scheduler)) as runtime:
        results = runtime.generate(greedy_requests())
    assert [result.token_ids for result in results] == exclusive
    assert any(r.accepted for result in results for r in result.rounds), "nothing was ever accepted"


@pytest.mark.parametrize("scheduler", ["threshold", "algorithm1", "async"])
def test_where_drafting_does_not_pay_it_is_left_out(bundle: Bundle, exclusive: list[list[int]], scheduler: str) -> None:
    """The tiny drafter guesses: after a few rounds nearly all are plain, and nobody's output changes."""
    with Runtime(bundle, replace(options(4, scheduler), speculation="auto")) as runtime:
        results = runtime.generate(greedy_requests())
    assert [result.token_ids for result in results] == exclusive
    drafts = sum(span.engine == "draft" for span in runtime.timeline.spans)
    steps = sum(span.engine == "verify" for span in runtime.timeline.spans)
    assert 0 < drafts < steps / 3


@pytest.mark.parametrize(
    ("in_bundle", "wanted", "drafts"), [(False, "auto", False), (False, "on", True), (True, "off", False)]
)
def test_speculation_is_switched_per_bundle_and_per_run(
    bundle: Bundle, exclusive: list[list[int]], in_bundle: bool, wanted: Speculation, drafts: bool
) -> None:
    manifest = bundle.manifest.model_copy(update={"speculation": in_bundle})
    with Runtime(replace(bundle, manifest=manifest), replace(options(8), speculation=wanted)) as runtime:
        results = runtime.generate(greedy_requests()[:8])
    assert [result.token_ids for result in results] == exclusive[:8]
    assert any(span.engine == "draft" for span in runtime.timeline.spans) is drafts


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("scheduler", ["fixed", "async"])
def test_two_cohorts_overlap_and_change_nothing(
    bundle: Bundle, exclusive: list[list[int]], scheduler: str, shared: bool, tmp_path: Path
) -> None:
    """On engines of their own, and taking turns on the same ones."""
    with ExitStack() as stack:
        engines = stack.enter_context(get_backend("onnxruntime").open(bundle, OPTIONS)) if shared else None
        runtime = stack.enter_context(Runtime(bundle, replace(options(8, scheduler), pipeline="on"), engines=engines))
        results = runtime.generate(greedy_requests())
    assert [result.token_ids for result in results] == exclusive
    assert runtime.plan.cohorts.slots == [4, 4]
    assert ("take turns" if shared else "of its own") in runtime.plan.cohorts.reason
    assert {span.cohort for span in runtime.timeline.spans} == {0, 1}
    assert runtime.timeline.overlap_seconds() > 0
    overlaps = False
    for engine in ("draft", "verify"):
        turns = sorted((span.begin, span.end) for span in runtime.timeline.spans if span.engine == engine)
        overlaps |= any(a[1] > b[0] for a, b in itertools.pairwise(turns))
        assert 0 <= runtime.timeline.idle_share(engine) < 1
    assert overlaps is not shared, "a shared engine serves one cohort at a time, own engines do not wait"
    runtime.timeline.write(tmp_path / "trace.json")
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    assert sum(event["ph"] == "X" for event in events) == len(runtime.timeline.spans)
    names = {event["args"]["name"] for event in events if event["ph"] == "M"}
    assert names == {f"cohort {cohort}: {engine}" for cohort in (0, 1) for engine in ("draft", "verify")}


@pytest.mark.parametrize(
    ("wanted", "slots", "threads", "expected", "reason"),
    [
        ("auto", 8, 0, [8], "cores"),
        ("auto", 8, 10_000, [8], "cores"),
        ("auto", 1, 1, [1], "one request"),
        ("on", 1, 1, [1], "one request"),
        ("on", 5, 0, [3, 2], "two cohorts"),
        ("off", 8, 1, [8], "switched off"),
    ],
)
@pytest.mark.parametrize("own", [False, True])
def test_overlap_turns_itself_off_and_says_why(
    wanted: str, slots: int, threads: int, expected: list[int], reason: str, own: bool
) -> None:
    cohorts = plan_cohorts(wanted, slots, EngineOptions(threads), own_engines=own)
    assert (cohorts.shared is not None) is (own and len(expected) == 2)
    assert cohorts.slots == expected
    assert reason in cohorts.reason


@pytest.mark.parametrize("speculate", [True, False])
def test_sampled_output_depends_on_the_seed_alone(bundle: Bundle, speculate: bool) -> None:
    requests = [
        replace(request, speculate=speculate, sampling=SamplingParams(temperature=0.9, top_p=0.95, seed=seed))
        for seed, request in enumerate(greedy_requests(1)[:24])
    ]
    with get_backend("onnxruntime").open(bundle, OPTIONS) as engines:
        generator = Generator(engines, bundle.manifest)
        expected = [generator.run(request).token_ids for request in requests]
    with Runtime(bundle, options(8)) as runtime:
        assert [result.token_ids for result in runtime.generate(requests)] == expected
        other = runtime.generate([replace(r, sampling=replace(r.sampling, seed=99)) for r in requests])
    assert [result.token_ids for result in other] != expected


def test_streams_say_everything_once_and_in_order(bundle: Bundle, exclusive: list[list[int]]) -> None:
    with Runtime(bundle, options(4)) as runtime:
        streams = [runtime.submit(request) for request in greedy_requests()[:12]]
        for stream, expected in zip(streams, exclusive, strict=False):
            *tokens, last = list(stream)
            assert isinstance(last, Finished)
            assert all(isinstance(event, Tokens) and event.token_ids for event in tokens)
            assert [token for event in tokens for token in event.token_ids] == expected == last.result.token_ids


def test_cancelled_requests_end_and_disturb_nobody(bundle: Bundle, exclusive: list[list[int]]) -> None:
    requests, rng = greedy_requests(), random.Random(3)
    with Runtime(bundle, options(4)) as runtime:
        streams = [runtime.submit(request) for request in requests]
        for stream in rng.sample(streams, 20):
            stream.cancel()
        results = [stream.result() for stream in streams]
    cancelled = [r for r, stream in zip(results, streams, strict=True) if stream.cancelled and r.stop == "cancelled"]
    assert cancelled
    for result, stream, expected in zip(results, streams, exclusive, strict=True):
        if stream.cancelled:
            assert result.token_ids == expected[: len(result.token_ids)]
        else:
            assert result.token_ids == expected


def test_a_full_queue_refuses_at_once(bundle: Bundle) -> None:
    request, refused = greedy_requests()[0], []
    with Runtime(bundle, replace(options(1), max_queue=2)) as runtime:
        for _ in range(50):
            try:
                runtime.submit(request)
            except RequestError as error:
                refused.append(str(error))
    assert refused
    assert set(refused) == {"the queue is full: 2 requests are waiting"}


def test_leaving_with_an_error_abandons_the_rest(bundle: Bundle) -> None:
    streams = []
    with pytest.raises(KeyError), Runtime(bundle, options(2)) as runtime:  # noqa: PT012
        streams = [runtime.submit(request) for request in greedy_requests()]
        raise KeyError("something of the caller's")
    stops = [stream.result().stop for stream in streams]
    assert "cancelled" in stops
    with pytest.raises(RequestError, match="closed"):
        runtime.submit(greedy_requests()[0])


def test_more_at_once_than_built_for_is_refused(bundle: Bundle) -> None:
    with (
        pytest.raises(RequestError, match="9 requests at once, the bundle was built for 8"),
        Runtime(bundle, options(9)),
    ):
        pass


@pytest.fixture
def broken_drafter(monkeypatch: pytest.MonkeyPatch) -> None:
    """A draft engine that fails from its third step on."""
    from dspark_engines.backends.onnxruntime.engines import OrtDraftEngine

    step, calls = OrtDraftEngine.step, iter(range(10**6))

    def fail(self: OrtDraftEngine, *args: object, **kwargs: object) -> object:
        if next(calls) >= 2:
            raise RuntimeError("the device is gone")
        return step(self, *args, **kwargs)

    monkeypatch.setattr(OrtDraftEngine, "step", fail)


@pytest.mark.usefixtures("broken_drafter")
def test_a_failing_drafter_loses_nothing(bundle: Bundle, exclusive: list[list[int]]) -> None:
    warning = pytest.warns(RuntimeWarning, match="draft engine failed.*device is gone.*plain decoding")
    with warning, Runtime(bundle, options(4)) as runtime:
        results = runtime.generate(greedy_requests())
    assert [result.token_ids for result in results] == exclusive
    statistics = run_statistics(runtime, results)
    assert (statistics.draft_failures, statistics.bad_blocks) >= (1, 0)
    assert statistics.last_draft_failure == "RuntimeError: the device is gone"


def test_a_drafter_whose_confidences_are_all_nan_is_done_without(
    bundle: Bundle, exclusive: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from dspark_engines.backends.onnxruntime.engines import OrtDraftEngine

    step = OrtDraftEngine.step

    def poisoned(self: OrtDraftEngine, *args: object, **kwargs: object) -> object:
        output = step(self, *args, **kwargs)
        return output._replace(confidence_logits=output.confidence_logits * float("nan"))

    monkeypatch.setattr(OrtDraftEngine, "step", poisoned)
    warning = pytest.warns(RuntimeWarning, match="confidences or logits are NaN")
    with warning, Runtime(bundle, options(2, "async")) as runtime:
        results = runtime.generate(greedy_requests()[:8])
    assert [result.token_ids for result in results] == exclusive[:8]
    assert not any(r.proposed for result in results for r in result.rounds)
    statistics = run_statistics(runtime, results)
    assert statistics.draft_failures == 0
    assert 3 <= statistics.bad_blocks <= 3 * 8
    assert "NaN" in statistics.report()["last_draft_failure"]


def test_a_failing_verifier_is_reported_to_everyone(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    from dspark_engines.backends.onnxruntime.engines import OrtVerifyEngine

    def fail(*args: object, **kwargs: object) -> object:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(OrtVerifyEngine, "step", fail)
    with Runtime(bundle, options(2)) as runtime:
        for stream in [runtime.submit(request) for request in greedy_requests()[:3]]:
            with pytest.raises(DsparkError, match="out of memory"):
                stream.result()


def test_an_interruption_while_it_waits_leaves_no_thread(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C as the block ends, with work in flight: the interpreter must not end before the engines' threads."""
    join, calls = threading.Thread.join, itertools.count()

    def interrupted(thread: threading.Thread, timeout: float | None = None) -> None:
        if next(calls) == 0:
            raise KeyboardInterrupt
        join(thread, timeout)

    monkeypatch.setattr(threading.Thread, "join", interrupted)
    with pytest.raises(KeyboardInterrupt), Runtime(bundle, options(8)) as runtime:
        streams = [runtime.submit(request) for request in greedy_requests()]
    monkeypatch.undo()
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("dspark")]
    assert any(stream.result().stop == "cancelled" for stream in streams)

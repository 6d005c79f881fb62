"""The backend for ONNX Runtime's CUDA provider, which the CPU provider plays: everything but the GPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from dspark_engines.backends import CompileOptions, EngineOptions, Engines, get_backend
from dspark_engines.bundle import Bundle, engine_identity, open_bundle
from dspark_engines.errors import BackendError
from dspark_engines.measured import take_fingerprint
from dspark_engines.profiling import ProfilePlan, measure
from dspark_export.bundling import Silent, compile_bundle
from dspark_export.checks import check_identity, compare, compare_engines
from tests.backend.backends.test_engines import build, step_in_company, verify
from tests.support import cuda_provider, tiny
from tests.support.cuda_provider import SimulatedOrt, SimulatedSession

NAME = "onnxruntime-cuda"
ROUNDED = 4 * 2.0**-10
"""What float16 may add to the largest number of an output, as a share of it."""


@pytest.fixture
def ort(monkeypatch: pytest.MonkeyPatch) -> SimulatedOrt:
    return cuda_provider.install(monkeypatch)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return compiled(build(tmp_path_factory.mktemp("cuda"), 4, kind="rnn"), "fp32")


def compiled(bundle: Bundle, precision: str, **options: object) -> Bundle:
    settings = CompileOptions(precision=precision, **options)  # type: ignore[arg-type]
    compile_bundle(bundle.path, NAME, Silent(), overwrite=True, options=settings)
    return open_bundle(bundle.path)


@contextmanager
def opened(bundle: Bundle) -> Iterator[Engines]:
    with get_backend(NAME).open(bundle, EngineOptions()) as engines:
        yield engines


@pytest.mark.parametrize(
    ("architecture", "kind", "slots"),
    [("llama", "none", 1), ("llama", "vanilla", 3), ("llama", "gated", 1), ("qwen3", "rnn", 3)],
)
def test_engines_compute_what_the_exported_graphs_say(
    ort: SimulatedOrt, architecture: str, kind: str, slots: int, tmp_path: Path
) -> None:
    bundle = compiled(build(tmp_path, slots, architecture=architecture, kind=kind), "fp32")
    with opened(bundle) as engines:
        results = compare_engines(bundle, engines)
    assert len(results) == 20
    assert all(result.passed for result in results), results
    assert len(ort.sessions) == 2


def test_rows_in_changing_company(bundle: Bundle, ort: SimulatedOrt) -> None:
    with opened(bundle) as engines, opened(bundle) as lone:
        step_in_company(engines, lone, greedy_logits=False)


def test_a_long_row_leaves_its_neighbours_caches_alone(bundle: Bundle, ort: SimulatedOrt) -> None:
    """It runs on cache rows of its own, which begin in the middle of the memory; the last cell is within bounds."""
    context, random = bundle.manifest.limits.context_length, np.random.default_rng(1)
    texts = [random.integers(0, tiny.VOCAB, count).tolist() for count in (3, context - 1, 4)]
    with opened(bundle) as engines:
        slots = [engines.verify.new_slot() for _ in texts]
        for slot, text in zip(slots, texts, strict=True):
            verify(engines, [slot], [text], [0])
        used = [len(text) for text in texts]
        together = verify(engines, slots, [[7], [7], [7]], used)
        for slot, text, (logits, _) in zip(slots, texts, together, strict=True):
            whole = verify(engines, [slot], [[*text, 7]], [0])[0]
            assert compare("target.logits", logits, whole[0][-1:]).passed


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_speculation_changes_nothing(precision: str, ort: SimulatedOrt, tmp_path: Path) -> None:
    bundle = compiled(build(tmp_path, 2), precision)
    prompts = [list(range(5, 5 + length)) for length in (1, 7, 20)]
    with opened(bundle) as engines:
        report = check_identity(engines, bundle.manifest, prompts, 12, lambda done, total: None)
    assert report.passed, report.differences
    assert report.tokens == 36


def test_half_precision_stays_near(bundle: Bundle, ort: SimulatedOrt, tmp_path: Path) -> None:
    """float16 caches and layers, as the provider would hold them, against float32."""
    half = compiled(build(tmp_path, 4, kind="rnn"), "fp16")
    text = np.random.default_rng(3).integers(0, tiny.VOCAB, 12).tolist()
    outputs = []
    for each in (half, bundle):
        with opened(each) as engines:
            outputs.append(verify(engines, [engines.verify.new_slot()], [text], [0])[0])
    for ours, exact in zip(*outputs, strict=True):
        difference = np.abs(ours - exact).max() / np.abs(exact).max()
        assert 0 < difference < ROUNDED, "nothing was rounded, or too much"


def test_greedy_drafts_leave_their_logits_out(bundle: Bundle, ort: SimulatedOrt, tmp_path: Path) -> None:
    greedy = compiled(build(tmp_path, 4, kind="rnn"), "fp32", greedy_drafts=True)
    features = np.random.default_rng(4).standard_normal((3, bundle.manifest.drafter.feature_size), np.float32)
    lengths, used, anchors = np.array([3]), np.array([0]), np.array([9])
    cold, noise = np.zeros(1, np.float32), np.zeros((1, tiny.BLOCK), np.float32)
    ids = []
    for each in (greedy, bundle):
        with opened(each) as engines:
            slots = [engines.draft.new_slot()]
            out = engines.draft.step(slots, features, lengths, used, anchors, cold, noise)
            ids.append(out.draft_ids.tolist())
            assert np.asarray(out.draft_logits).shape == (1, tiny.BLOCK, 0)
            assert engines.draft.samples == (each is bundle)
    assert ids[0] == ids[1]


@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_draft_logits_are_copied_for_sampled_rows_only(bundle: Bundle, ort: SimulatedOrt, temperature: float) -> None:
    features = np.ones((2, bundle.manifest.drafter.feature_size), np.float32)
    noise, sampled = np.full((1, tiny.BLOCK), 0.5, np.float32), temperature > 0
    with opened(bundle) as engines:
        slots = [engines.draft.new_slot()]
        lengths, used, anchors = np.array([2]), np.array([0]), np.array([9])
        out = engines.draft.step(slots, features, lengths, used, anchors, np.array([temperature], np.float32), noise)
        stays = {name: stay for binding in ort.sessions[1].bindings for name, stay in binding.stays.items()}
    assert stays == {"draft_ids": False, "confidence_logits": False, "draft_logits": not sampled}
    assert np.asarray(out.draft_logits).shape == (1, tiny.BLOCK, tiny.VOCAB if sampled else 0)


def test_opening_warms_up_and_steps_are_not_prepared_twice(bundle: Bundle, ort: SimulatedOrt) -> None:
    with opened(bundle) as engines:
        started = [session.runs for session in ort.sessions]
        assert min(started) > 0
        engines.verify.preload(1)
        engines.draft.preload(1)
        assert [session.runs for session in ort.sessions] == started
        engines.verify.preload(4)
        assert ort.sessions[0].runs > started[0]


def test_a_warm_up_leaves_caches_in_use_alone(bundle: Bundle, ort: SimulatedOrt) -> None:
    with opened(bundle) as engines:
        slots = [engines.verify.new_slot() for _ in range(4)]
        texts = [[row + 1, row + 2, row + 3] for row in range(4)]
        verify(engines, slots, texts, [0] * 4)
        expected = verify(engines, slots, [[9]] * 4, [3] * 4)
        engines.verify.preload(4)
        for ours, before in zip(verify(engines, slots, [[9]] * 4, [3] * 4), expected, strict=True):
            np.testing.assert_array_equal(ours[0], before[0])


def test_weights_in_half_precision_lie_beside_the_graph(bundle: Bundle, tmp_path: Path) -> None:
    """Those in float32 stay where they were exported to; what the backend holds is vouched for."""
    half = compiled(build(tmp_path, 1), "bf16")
    names = {record.path for record in half.manifest.files}
    folder = f"engines/{NAME}"
    assert {f"{folder}/{role}.onnx{end}" for role in ("verify", "draft") for end in ("", ".data")} <= names
    assert {engine.weights for engine in half.manifest.backends[1].engines} == {folder}
    assert {engine.precision for engine in half.manifest.backends[1].engines} == {"bf16"}
    assert {engine.weights for engine in bundle.manifest.backends[1].engines} == {"onnx"}
    assert not list((bundle.path / folder).glob("*.data"))


def test_other_backends_measurements_stay_valid(tmp_path: Path) -> None:
    """`onnxruntime` begins like `onnxruntime-cuda`; what was measured on one is not about the other."""
    plain = build(tmp_path, 1)
    before = engine_identity(plain.manifest, "onnxruntime")
    both = compiled(plain, "fp32")
    assert engine_identity(both.manifest, "onnxruntime") == before
    assert engine_identity(both.manifest, NAME) != before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"starts": False}, r"could not start its CUDA provider: Failed to load libcublas\.so\.13"),
        ({"missing": ["Attention", "Concat"]}, "has no CUDA kernel for Attention"),
    ],
)
def test_work_on_the_cpu_is_refused(
    bundle: Bundle,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: dict[str, object],
    message: str,
) -> None:
    cuda_provider.install(monkeypatch, **options)  # type: ignore[arg-type]
    with pytest.raises(BackendError, match=message), opened(bundle):
        pass
    assert capsys.readouterr().out == "", "standard output belongs to the command"


def test_sizes_may_be_computed_on_the_host(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    cuda_provider.install(monkeypatch, missing=["Concat"])
    with opened(bundle) as engines:
        assert engines.verify.max_rows == 4


@pytest.mark.parametrize("where", ["run_with_iobinding", "io_binding"])
def test_a_step_that_fails_is_told_in_one_line(
    bundle: Bundle, ort: SimulatedOrt, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    def fail(*arguments: object) -> None:
        raise RuntimeError("CUDA failure 2: out of memory\nsecond line")

    monkeypatch.setattr(SimulatedSession, where, fail)
    with pytest.raises(BackendError, match=r"CUDA failure 2: out of memory$") as caught, opened(bundle):
        pass
    assert "nvidia-smi" in str(caught.value.hint)
    assert "cuDNN" in str(caught.value.hint)


def test_memory_that_is_not_there_is_told(bundle: Bundle, ort: SimulatedOrt, monkeypatch: pytest.MonkeyPatch) -> None:
    allocate = ort.OrtValue.ortvalue_from_numpy

    def full(array: np.ndarray, *where: object) -> object:
        if array.size > 1:
            raise RuntimeError("Failed to allocate memory")
        return allocate(array, *where)

    monkeypatch.setattr(ort.OrtValue, "ortvalue_from_numpy", full)
    expected = pytest.raises(BackendError, match=r"no room on the GPU for key_cache\.0: Failed to allocate")
    with expected as caught, opened(bundle):
        pass
    assert "--slots" in str(caught.value.hint)


def test_a_broken_engine_is_told(ort: SimulatedOrt, tmp_path: Path) -> None:
    bundle = compiled(build(tmp_path, 1), "fp32")
    (bundle.path / "engines" / NAME / "draft.onnx").write_bytes(b"no graph")
    with pytest.raises(BackendError, match=r"draft\.onnx: ONNX Runtime .* cannot load it on the GPU"), opened(bundle):
        pass


def test_a_profile_of_as_many_requests_as_there_are_slots(bundle: Bundle, ort: SimulatedOrt) -> None:
    """Every batch size and context gives its slots back before the next one takes them."""
    slots = bundle.manifest.limits.slots
    plan = ProfilePlan(rows=[1, slots], contexts=[4, 8], samples=1, most=1)
    with opened(bundle) as engines:
        table = measure(
            bundle, engines, plan, take_fingerprint(bundle, NAME, EngineOptions()), lambda done, total: None
        )
    assert {(timing.rows, timing.context) for timing in table.draft} == {(1, 4), (1, 8), (slots, 4), (slots, 8)}

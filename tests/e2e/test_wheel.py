"""The wheel carries four packages and no more, and with its base dependencies alone it runs a bundle."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {"dspark_export", "dspark_plugins", "dspark_engines", "dspark_calibration"}
# What only exporting, the oracle or the tests need.
NOT_IN_BASE = ["torch", "transformers", "onnx", "onnx_ir", "onnxscript", "gguf", "safetensors", "pytest"]
GENERATION_KEYS = {
    "text",
    "token_ids",
    "rounds",
    "accepted_length",
    "accepted_per_position",
    "tokens_per_second",
    "seconds",
}


def run(*command: str | Path, cwd: Path) -> str:
    """Run `command` away from the working tree: only what is installed can be imported. Return its output."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def base(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment's bin folder: the wheel and its base dependencies, at the tested versions."""
    folder = tmp_path_factory.mktemp("base")
    venv.create(folder / "venv", with_pip=True)
    binaries = folder / "venv" / "bin"
    pip: list[str | Path] = [
        binaries / "python",
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
    ]
    run(*pip, "-c", ROOT / "constraints.txt", wheel, cwd=folder)
    return binaries


def test_top_level_is_the_four_packages(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    top = {name.split("/")[0] for name in names}
    assert {name for name in top if not name.endswith(".dist-info")} == PACKAGES
    assert len(top) == len(PACKAGES) + 1


def test_every_module_and_type_marker_is_in_the_wheel(wheel: Path) -> None:
    folders = [ROOT, ROOT / "plugins", ROOT / "engines", ROOT / "calibration"]
    expected = {
        path.relative_to(folder).as_posix()
        for folder in folders
        for package in PACKAGES
        for pattern in ("*.py", "py.typed", "*.j2", "*.onnx")
        for path in (folder / package).rglob(pattern)
    }
    assert {f"{package}/py.typed" for package in PACKAGES} <= expected
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if name.endswith((".py", "/py.typed", ".j2", ".onnx"))}
    assert packed == expected


def test_base_installation_leaves_out_what_exporting_needs(base: Path, tmp_path: Path) -> None:
    code = "import importlib.util, sys; print(*(m for m in sys.argv[1:] if importlib.util.find_spec(m)))"
    assert run(base / "python", "-c", code, *NOT_IN_BASE, cwd=tmp_path).split() == []


def test_base_installation_imports_all_packages(base: Path, tmp_path: Path) -> None:
    run(base / "python", "-W", "error::DeprecationWarning:dspark", "-c", imports(), cwd=tmp_path)


def imports() -> str:
    return "import " + ", ".join(sorted(PACKAGES))


def test_base_installation_shows_its_help(base: Path, tmp_path: Path) -> None:
    assert "generate" in run(base / "dspark-export", "--help", cwd=tmp_path)


def test_base_installation_runs_a_bundle(base: Path, tmp_path: Path, smollm2_bundle: Path) -> None:
    options = ["--prompt", "hi", "--max-new-tokens", "4", "--json"]
    output = run(base / "dspark-export", "generate", smollm2_bundle.resolve(), *options, cwd=tmp_path)
    report = json.loads(output.splitlines()[-1])
    assert report.keys() >= GENERATION_KEYS
    assert 1 <= len(report["token_ids"]) <= 4

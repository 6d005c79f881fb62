# Two commands matter: `make demo` (see it work) and `make test` (check everything). `make check` is for every day,
# `make help` lists the rest.
#   PYTHON   interpreter for the virtual environment   (default python3)
#   VENV     the virtual environment                   (default .venv)
#   JOBS     test processes side by side               (default 2)

PYTHON  ?= python3
VENV    ?= .venv
JOBS    ?= 2
BIN     := $(VENV)/bin
PIP     := $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt
CREATED := $(VENV)/.created
EXPORT  := $(VENV)/.installed-export
DEV     := $(VENV)/.installed-dev

TARGET  := build/models/SmolLM2-135M-Instruct.Q4_1.gguf
DRAFTER := examples/smollm2/drafter
OTHERS  := examples/smollm2/drafters
BUNDLE  := build/smollm2
INT8    := build/smollm2-int8
PROMPT  := What is the capital of France?
# What decides a bundle's content: when one of these is newer, `make test` builds the bundle again.
SOURCES := $(shell find dspark_export plugins engines -name '*.py') $(wildcard $(DRAFTER)/*.json $(DRAFTER)/*.safetensors) \
	$(wildcard $(OTHERS)/*/*.json $(OTHERS)/*/*.safetensors)

# Nothing here reads from a model hub; transformers and tokenizers shall not try.
export HF_HUB_OFFLINE := 1

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo check test lint format slow gpu bench fetch clean distclean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(EXPORT) fetch ## install, build the SmolLM2 example in int8, answer prompts with and without speculation
	$(BIN)/dspark-export build --recipe engines/recipes/smollm2-cpu-int8.toml --no-calibrate --output $(INT8) --overwrite
	$(BIN)/dspark-export generate $(INT8) --prompt "$(PROMPT)" --max-new-tokens 48
	$(BIN)/python examples/smollm2/compare.py $(INT8)

test: lint $(BUNDLE)/manifest.json ## install everything, lint, type-check, run all but the slow and the GPU tests
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal

check: lint ## ruff, mypy, unit tests: under a minute once everything is installed
	$(BIN)/python -m pytest -n $(JOBS) tests/unit

lint: $(DEV) ## ruff, its formatter's check, mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(DEV) ## let ruff put imports and layout right
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

slow: $(DEV) $(BUNDLE)/manifest.json ## the tests that take minutes
	$(BIN)/python -m pytest -m "slow and not gpu"

gpu: $(DEV) $(BUNDLE)/manifest.json ## the tests that need a GPU
	$(BIN)/python -m pytest -m gpu

bench: $(EXPORT) $(BUNDLE)/manifest.json ## speculation against plain decoding on this machine
	$(BIN)/python benchmarks/speculation.py $(BUNDLE)

fetch: $(EXPORT) ## download the example's target, or check the hash of the one that is there
	$(BIN)/python examples/smollm2/fetch_target.py --output $(TARGET)

$(BUNDLE)/manifest.json: $(SOURCES) | $(EXPORT) fetch
	$(BIN)/dspark-export build --recipe engines/recipes/smollm2-cpu.toml --no-calibrate --output $(BUNDLE) --overwrite

$(CREATED):
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "error: Python 3.11 or newer is needed\nhint: make PYTHON=/path/to/python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	@touch $@

# Editable, so that the environment follows the working tree. The order keeps one pip at a time in it.
$(EXPORT): pyproject.toml constraints.txt | $(CREATED)
	$(PIP) -e '.[export]'
	@touch $@

$(DEV): $(EXPORT)
	$(PIP) -e '.[dev]'
	@touch $@

clean: ## remove what was built; the environment and the downloaded target stay
	rm -rf $(BUNDLE) dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

distclean: clean ## remove these too
	rm -rf build $(VENV)

# Every target makes its own virtual environment where there is none; `make help` lists them.

VENV ?= .venv
WORKERS ?= 2
COVERAGE ?= --cov --cov-config=setup.cfg
PYTEST_ARGS ?=

# The first Python >= 3.11 that runs: a name on PATH may be a shim with nothing behind it.
PYTHON ?= $(firstword $(foreach p,python3.12 python3.11 python3,$(shell \
	$(p) -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo $(p))))

# One compilation cache for each environment, and every compilation is kept: a second run of the
# tests takes a fraction of the first.
JAX_CACHE ?= $(CURDIR)/.jax_cache/$(notdir $(VENV))
CACHED = JAX_COMPILATION_CACHE_DIR="$(JAX_CACHE)" JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0 \
	JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES=-1

PY = $(VENV)/bin/python
PYTEST = $(PY) -m pytest $(PYTEST_ARGS)

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test doctest validate lint format venv clean

help:  ## list the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

demo: $(VENV)/.stamp-experiments  ## train on rotated digits; nothing to download
	$(PY) -m experiments.rotated_digits

# Most of their time goes into compiling small programs that run once, so LLVM optimises less;
# the examples and the slow tests run what users run.
test: $(VENV)/.stamp-test  ## the fast tests, with coverage of pdo_jax
	XLA_FLAGS="$(XLA_FLAGS) --xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true" \
		$(CACHED) $(PYTEST) -m "not slow" -n $(WORKERS) $(COVERAGE) --durations=10

doctest: $(VENV)/.stamp-test  ## the examples in the docstrings and in the prose
	$(PYTEST) --doctest-modules --doctest-glob='*.md' pdo_jax README.md $(wildcard docs)

# Without the fusions of jaxlib 0.10.2 that README.md warns of: on some processors they hang.
validate: $(VENV)/.stamp-test  ## the slow tests
	XLA_FLAGS="$(XLA_FLAGS) --xla_cpu_experimental_ynn_fusion_type=" \
		$(CACHED) $(PYTEST) -m slow -n $(WORKERS) --durations=20

lint: $(VENV)/.stamp-test $(VENV)/.stamp-lint  ## style, layout and types
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m pyright --pythonpath $(PY) --warnings

format: $(VENV)/.stamp-lint  ## lay out the code and apply the safe fixes
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

venv: $(VENV)/.stamp-test $(VENV)/.stamp-lint  ## everything a developer needs

clean:  ## remove caches and build products; virtual environments and runs/ stay
	rm -rf build dist *.egg-info .jax_cache .pytest_cache .ruff_cache .coverage htmlcov
	find pdo_jax experiments benchmarks tests -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true

# `.stamp-NAME` says that the extra NAME of this pyproject.toml is installed.
$(VENV)/.stamp-%: pyproject.toml | $(VENV)/bin/python
	$(PY) -m pip install -qq --disable-pip-version-check -e '.[$*]'
	touch $@

$(VENV)/bin/python:
	$(if $(PYTHON),,$(error no Python >= 3.11 runs here; install one, or pass PYTHON=/path/to/it))
	$(PYTHON) -m venv $(VENV)

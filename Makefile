# Everything below sets itself up: Python 3.10 to 3.12 and make are all that is needed.
#   make demo   translate the bundled T1-weighted head to FLAIR; results in out/demo
#   make test   the tests of the extension and of the library, without data from elsewhere
#   make test-all   the same with the slow ones
#   make test-research   the tests of the research package in research/
# Variables: PYTHON (interpreter), TORCH (what pip installs as torch), PYTEST_ARGS.

VENV := .venv
# What this name brings depends on pip's package index: the build for the CPU, or the one for CUDA with
# several gigabytes of libraries. README ("Which PyTorch") says how to choose.
TORCH ?= torch==2.13.0
PYTEST_ARGS ?=
PYTHON ?= $(shell for p in python3 python3.12 python3.11 python3.10 python; do \
	$$p -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null \
	&& echo $$p && break; done)
PY := $(VENV)/bin/python
PIP := $(PY) -m pip install --disable-pip-version-check

.PHONY: demo test test-all test-research lint hooks coverage performance golden model-cards screenshots clean

demo: $(VENV)/.demo
	$(PY) Testing/demo.py

test: $(VENV)/.test
	QT_QPA_PLATFORM=offscreen $(PY) -m pytest Testing -m "not slow" $(PYTEST_ARGS)

test-all: $(VENV)/.test
	QT_QPA_PLATFORM=offscreen $(PY) -m pytest Testing $(PYTEST_ARGS)

test-research: $(VENV)/.research
	$(PY) -m pytest -c research/pyproject.toml --rootdir research research/tests $(PYTEST_ARGS)

lint: $(VENV)/.lint
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m codespell_lib
	$(PY) -m mypy

hooks: $(VENV)/.lint
	$(PY) -m pre_commit install

coverage: $(VENV)/.test
	QT_QPA_PLATFORM=offscreen $(PY) -m pytest Testing --cov --cov-report=term $(PYTEST_ARGS)

performance: $(VENV)/.research
	$(PY) -m midiffusion_research performance

golden: $(VENV)/.test
	$(PY) Testing/golden.py

model-cards: $(VENV)/.research
	$(PY) -m midiffusion_research model-cards

screenshots: $(VENV)/.test
	QT_QPA_PLATFORM=offscreen $(PY) Testing/panel/screenshots.py

clean:
	rm -rf $(VENV) out build MIDiffusionTranslate/*.egg-info research/*.egg-info
	find . -path ./.git -prune -o \( -name __pycache__ -o -name '.*_cache' \) -prune -exec rm -rf {} +

# Stamps: a second run finds them and starts at once; a change of pyproject.toml renews them.
$(VENV)/.created:
	@test -n "$(PYTHON)" || { echo "error: no Python 3.10 to 3.12 found; install one, or name it: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV) || { echo "error: this Python can't make virtual environments (on Debian: apt-get install python3-venv)" >&2; exit 1; }
	@touch $@

$(VENV)/.runtime: pyproject.toml | $(VENV)/.created
	$(PIP) "$(TORCH)"
	$(PIP) -e .
	@touch $@

$(VENV)/.demo: $(VENV)/.runtime
	$(PIP) -e '.[demo]'
	@touch $@

$(VENV)/.test: $(VENV)/.runtime
	$(PIP) -e '.[test]'
	PY=$(PY) sh Testing/system_libraries.sh
	@touch $@

$(VENV)/.research: $(VENV)/.runtime research/pyproject.toml
	$(PIP) -e './research[test]'
	@touch $@

$(VENV)/.lint: $(VENV)/.runtime
	$(PIP) -e '.[lint]'
	@touch $@

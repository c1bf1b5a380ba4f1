# `make demo` and `make test` run on a fresh machine: they create a virtual environment first.
PYTHON ?= python3
VENV ?= .venv
LOWEST ?= .venv-lowest
NEWEST ?= .venv-newest
BIN := $(VENV)/bin
# the demo and the tests are small: with more threads per process, threads would only wait for each other
export OMP_NUM_THREADS ?= 1
# neighbouring tests share what they trained, and stay together until one process has nothing left
PARALLEL := -n 2 --dist worksteal
FAST := $(PARALLEL) -m "not slow" -p no:nbmake

.PHONY: demo docs evidence test test-slow test-versions test-lowest test-newest lint format clean

demo: $(VENV)/installed  ## compare strategies on a small synthetic corpus
	$(BIN)/gradual demo

docs: $(VENV)/installed  ## the handbook, in docs/_build/html; a broken link or reference fails
	$(BIN)/sphinx-build -W --keep-going -q docs docs/_build/html

evidence: $(VENV)/installed  ## DATA=DIR ENCODER=PATH [LAYERS=3]: the comparisons of docs/results.md; hours, and it resumes
	$(BIN)/python benchmarks/evidence.py $(DATA) $(ENCODER) $(if $(LAYERS),--layers $(LAYERS))

test: lint  ## style, types and the fast tests
	$(BIN)/pytest $(FAST)

test-slow: $(VENV)/installed  ## the tests that take long, more examples for the properties, the notebooks
	$(BIN)/pytest $(PARALLEL) -m "slow or hypothesis" --hypothesis-profile thorough
	$(BIN)/pytest --nbmake notebooks

test-versions: test-lowest test-newest

test-lowest: $(LOWEST)/installed  ## the fast tests with the lowest versions that pyproject.toml allows, but for torch
	$(LOWEST)/bin/pytest $(FAST)

test-newest: $(NEWEST)/installed  ## the fast tests with the newest versions that pyproject.toml allows
	$(NEWEST)/bin/pytest $(FAST)

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

$(LOWEST)/installed: pyproject.toml constraints.txt .ci/lowest.py
	$(PYTHON) -m venv $(LOWEST)
	$(PYTHON) .ci/lowest.py > $(LOWEST)/constraints.txt
	$(LOWEST)/bin/pip install --quiet --constraint $(LOWEST)/constraints.txt --editable '.[dev]'
	touch $@

$(NEWEST)/installed: pyproject.toml
	$(PYTHON) -m venv $(NEWEST)
	$(NEWEST)/bin/pip install --quiet --upgrade --upgrade-strategy eager --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) $(LOWEST) $(NEWEST) demo-data demo.yaml runs/demo docs/_build

# Everything a contributor runs. `make help` lists it.
#
# The virtual environment is built on first use and again when pyproject.toml or constraints.txt
# change; nothing has to be activated.

PYTHON ?= python3
PYTEST_ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt

# Two test processes with one thread each: more threads than cores make both slower.
TEST_WORKERS ?= 2
PYTEST := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/python -m pytest -n $(TEST_WORKERS)

.DEFAULT_GOAL := help
.PHONY: help demo test test-all test-pandas3 lint format generate tables clean distclean

help:
	@echo 'make demo       train on real data, forecast, and draw the patches'
	@echo 'make test       unit, contract and architecture tests, and the examples in docstrings'
	@echo 'make test-all   the same, with the slow tests, every optional dependency and pandas 3'
	@echo 'make lint       ruff, mypy, the import contracts and the limits of the structure'
	@echo 'make format     let ruff rewrite the files'
	@echo 'make generate   write what follows from the code: public names, errors, table of patchers'
	@echo 'make tables     fill the tables of the documents from benchmarks/results'
	@echo 'make clean      remove caches and build output; make distclean also removes $(VENV)'
	@echo
	@echo 'Variables: PYTHON=python3.12 (to build $(VENV) with), TEST_WORKERS=8,'
	@echo '           PYTEST_ARGS="tests/unit -k windows"'
	@echo 'Tests on public data sets look for them in the folder $$ADAPTIVEPATCH_DATA; without it they skip.'

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is required; set PYTHON=...")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP_INSTALL) -e '.[dev]'
	@touch $@

$(VENV)/.installed-demo: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP_INSTALL) -e '.[demo]'
	@touch $@

$(VENV)/.installed-all: $(VENV)/.installed
	$(PIP_INSTALL) -e '.[dev,all]'
	@touch $@

demo: $(VENV)/.installed-demo
	$(BIN)/adaptivepatch demo

test: $(VENV)/.installed
	$(PYTEST) $(PYTEST_ARGS)

test-all: $(VENV)/.installed-all test-pandas3
	$(PYTEST) -m 'slow or not slow' $(PYTEST_ARGS)

# One extra needs pandas < 3 and decides for the pinned set; the package itself runs on both.
$(VENV)-pandas3/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)-pandas3
	grep -v '^pandas==' constraints.txt > $(VENV)-pandas3/constraints.txt
	$(VENV)-pandas3/bin/python -m pip install --disable-pip-version-check \
		-c $(VENV)-pandas3/constraints.txt -e '.[dev]' 'pandas>=3'
	@touch $@

test-pandas3: $(VENV)-pandas3/.installed
	OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(VENV)-pandas3/bin/python -m pytest -n $(TEST_WORKERS) \
		tests/unit/data tests/unit/estimators tests/unit/bench tests/unit/test_demo.py

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	OMP_NUM_THREADS=1 $(BIN)/python tools/structure.py

format: $(VENV)/.installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# What follows from the code: the stub of the public names, the list of errors, the table of patchers.
generate: $(VENV)/.installed
	$(BIN)/python tools/generate_stub.py
	$(BIN)/python tools/generate_errors.py
	$(BIN)/python tools/generate_patchers.py

tables: $(VENV)/.installed
	$(BIN)/python -m benchmarks.tables README.md docs/*.md benchmarks/README.md

clean:
	rm -rf build dist demo_output .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	rm -rf *.egg-info
	find . -path ./$(VENV) -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean
	rm -rf $(VENV) $(VENV)-pandas3

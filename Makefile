# Every target makes .venv from requirements.lock by itself; nothing needs to be installed first but Python 3.11.
PYTHON ?= python3
BIN := .venv/bin
OUTPUTS = $(abspath $(or $(PREGAO_HOME),.))/outputs
# Two threads of torch are slower than one for networks of this size.
export OMP_NUM_THREADS ?= 1

.DEFAULT_GOAL := help
.PHONY: help setup train test test-all faults mutants check licences format serve docs dashboard mlflow notebooks pictures bench lock

help: ## this list
	@grep -hE '^[a-z-]+:.*##' Makefile | sed 's/:.*## /\t/' | expand -t 12

setup: .venv/ready ## the environment in .venv

# torch comes first and pinned: no other package then chooses another build of it. A machine whose index has a CPU build
# of this version spares itself CUDA's gigabytes.
.venv/ready: requirements.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check "$$(grep '^torch==' requirements.lock)"
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

train: setup ## a first model, from data inside a Python package: no network, under a minute
	$(BIN)/python train.py experiment=quickstart

test: setup ## the quick tests
	$(BIN)/pytest -m "not slow and not faults" -n 2

test-all: setup ## all tests but those of faults, as CI runs them, with branch coverage
	$(BIN)/pytest -m "not faults" -n 2 --cov --cov-report=term

faults: setup ## break everything under a real server, for minutes; wants a quiet machine
	$(BIN)/pytest -m faults

mutants: setup ## mutate the package in a hundred places, and print the mutations that no quick test notices
	$(BIN)/python benchmarks/mutants.py $(NAMES)

check: setup ## style, types, and known weaknesses: ours and of what we install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/bandit --quiet --configfile pyproject.toml --recursive src $(wildcard *.py)
	$(BIN)/python .ci/audit.py $(AUDIT)

licences: setup ## the table of licences in docs/, from what is installed
	$(BIN)/python .ci/licences.py

format: setup ## mend what ruff can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

serve: setup ## the API, on port 5000
	$(BIN)/python serve.py

docs: setup ## the documentation as a site, in outputs/docs/
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet --builder html docs $(OUTPUTS)/docs

dashboard: setup ## the dashboard, on port 8501
	$(BIN)/pregao dashboard

notebooks: setup ## run the notebooks; with their outputs they go to outputs/notebooks/
	mkdir -p $(OUTPUTS)/notebooks
	MPLBACKEND= $(BIN)/jupyter execute --timeout=300 --output=$(OUTPUTS)/notebooks/{notebook_name} notebooks/*.ipynb

pictures: setup ## draw the README's pictures anew, from PRICES=folder of STOCK.csv
	@test -n "$(PRICES)" || { echo "PRICES is not set: give a folder with VALE3.csv, make pictures PRICES=DIR"; exit 2; }
	$(BIN)/python benchmarks/pictures.py $(PRICES)

mlflow: setup ## MLflow's own page, on port 5001
	$(BIN)/python -m pregao.tracking

bench: setup ## the tables in benchmarks/, from PRICES=folder of STOCK.csv and QUOTES=folder of B3's sample
	@test -n "$(PRICES)" || { echo "PRICES is not set: give a folder with VALE3.csv and others, make bench PRICES=DIR"; exit 2; }
	$(BIN)/python benchmarks/reference_split.py $(PRICES)
	$(BIN)/python benchmarks/walk_forward.py $(PRICES)
	$(BIN)/python benchmarks/speed.py $(PRICES)
	$(BIN)/python benchmarks/commands.py $(PRICES)
	$(BIN)/python benchmarks/drift.py $(PRICES)
	$(BIN)/python benchmarks/sweeps.py $(PRICES)
	$(BIN)/python benchmarks/api.py
	test -z "$(QUOTES)" || $(BIN)/python benchmarks/b3.py $(QUOTES)
	$(BIN)/python benchmarks/faults.py
	$(BIN)/python benchmarks/dashboard.py $(PRICES)

lock: setup ## write requirements.lock anew from what pyproject.toml allows
	$(BIN)/pip install --quiet --upgrade --upgrade-strategy eager --editable ".[dev]"
	(head -1 requirements.lock; $(BIN)/pip freeze --exclude-editable | sed "s/+cpu$$//") > requirements.new
	mv requirements.new requirements.lock

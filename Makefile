# Every target creates .venv from requirements.lock if needed; Python 3.11 is the only prerequisite.
PYTHON ?= python3
BIN := .venv/bin
OUTPUTS = $(abspath $(or $(PREGAO_HOME),.))/outputs
# torch is faster with one thread than with two for networks of this size.
export OMP_NUM_THREADS ?= 1

.DEFAULT_GOAL := help
.PHONY: help setup train test test-all faults mutants check licences format serve docs dashboard mlflow notebooks pictures bench lock

help: ## this list
	@grep -hE '^[a-z-]+:.*##' Makefile | sed 's/:.*## /\t/' | expand -t 12

setup: .venv/ready ## create the environment in .venv

# torch first and pinned, so that no other package chooses another build. An index with a CPU build of this version saves
# CUDA's gigabytes.
.venv/ready: requirements.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check "$$(grep '^torch==' requirements.lock)"
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

train: setup ## train a first model on packaged data: no network, under a minute
	$(BIN)/python train.py experiment=quickstart

test: setup ## run the quick tests
	$(BIN)/pytest -m "not slow and not faults" -n 2

test-all: setup ## all tests but those of faults, as CI runs them; the quick ones with branch coverage
	$(BIN)/pytest -m "not slow and not faults" -n 2 --cov --cov-report=term
	$(BIN)/pytest -m "slow and not faults" -n 2

faults: setup ## run the fault tests: kill processes under a real server, for minutes, on a quiet machine
	$(BIN)/pytest -m faults

mutants: setup ## apply small mutations to the package, and print those that no quick test kills
	$(BIN)/python benchmarks/mutants.py $(NAMES)

check: setup ## check style, types, security and known vulnerabilities of dependencies
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/bandit --quiet --configfile pyproject.toml --recursive src $(wildcard *.py)
	$(BIN)/python .ci/audit.py $(AUDIT)

licences: setup ## write docs/licences.md from the installed packages
	$(BIN)/python .ci/licences.py

format: setup ## format, and apply ruff's fixes
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

serve: setup ## start the API on port 5000
	$(BIN)/python serve.py

docs: setup ## build the documentation as a site in outputs/docs/
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet --builder html --conf-dir docs . $(OUTPUTS)/docs
	@echo $(OUTPUTS)/docs/docs/index.html

dashboard: setup ## start the dashboard on port 8501
	$(BIN)/pregao dashboard

notebooks: setup ## run the notebooks into outputs/notebooks/
	mkdir -p $(OUTPUTS)/notebooks
	MPLBACKEND= $(BIN)/jupyter execute --timeout=300 --output=$(OUTPUTS)/notebooks/{notebook_name} notebooks/*.ipynb

pictures: setup ## redraw the README's pictures from PRICES=folder of STOCK.csv
	@test -n "$(PRICES)" || { echo "PRICES is not set: give a folder with VALE3.csv, make pictures PRICES=DIR"; exit 2; }
	$(BIN)/python benchmarks/pictures.py $(PRICES)

mlflow: setup ## start MLflow on port 5001
	$(BIN)/python -m pregao.tracking

bench: setup ## rewrite the tables in benchmarks/ from PRICES=folder of STOCK.csv and QUOTES=folder of B3's sample
	@test -n "$(PRICES)" || { echo "PRICES is not set: give a folder with VALE3.csv and others, make bench PRICES=DIR"; exit 2; }
	$(BIN)/python benchmarks/reference_split.py $(PRICES)
	$(BIN)/python benchmarks/published.py $(PRICES)
	$(BIN)/python benchmarks/bare_closes.py $(PRICES)
	$(BIN)/python benchmarks/folds.py $(PRICES)
	$(BIN)/python benchmarks/walk_forward.py $(PRICES)
	$(BIN)/python benchmarks/new_listings.py $(PRICES)
	$(BIN)/python benchmarks/speed.py $(PRICES)
	$(BIN)/python benchmarks/commands.py $(PRICES)
	$(BIN)/python benchmarks/drift.py $(PRICES)
	$(BIN)/python benchmarks/sweeps.py $(PRICES)
	$(BIN)/python benchmarks/scaling.py
	$(BIN)/python benchmarks/api.py
	test -z "$(QUOTES)" || $(BIN)/python benchmarks/b3.py $(QUOTES)
	$(BIN)/python benchmarks/faults.py
	$(BIN)/python benchmarks/dashboard.py $(PRICES)

lock: setup ## rewrite requirements.lock with the newest versions that pyproject.toml allows
	$(BIN)/pip install --quiet --upgrade --upgrade-strategy eager --editable ".[dev]"
	(head -1 requirements.lock; $(BIN)/pip freeze --exclude-editable | sed "s/+cpu$$//") > requirements.new
	mv requirements.new requirements.lock

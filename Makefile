# Everything sets itself up: Python 3.11+, pip and venv are all a machine needs.
PYTHON ?= python3
STORE  ?= eureka-store
ARGS   ?=

BIN    := .venv/bin
PIP     = $(BIN)/pip --disable-pip-version-check install --quiet -c constraints.txt

.PHONY: install quickstart gallery test test-slow lab lint bench clean chaos fuzz audit

install: .venv/installed

quickstart: .venv/installed          ## the README's sweep, and its report
	$(BIN)/eureka run quickstart --store $(STORE) $(ARGS)

gallery: .venv/installed             ## every small sweep, and one page of them: STORE/gallery/index.html
	for sweep in orchestrator/sweeps/*_small.yaml; do \
	  $(BIN)/eureka run $$sweep --store $(STORE) --no-report $(ARGS) || exit; done
	$(BIN)/python -m orchestrator.gallery $(STORE)

test: .venv/tested                   ## the whole suite, two processes
	$(BIN)/pytest -n 2 --dist worksteal $(ARGS)

test-slow: .venv/tested              ## ten thousand steps of every variant; do the intervals cover? (tests/analysis/coverage/RESULTS.md)
	OMP_NUM_THREADS=1 $(BIN)/pytest -m slow $(ARGS)

lab: .venv/tested                    ## real ssh, Ray and Slurm on four hosts in namespaces; needs root, skips with a reason
	OMP_NUM_THREADS=1 $(BIN)/pytest -m lab tests/lab -s -rs $(ARGS)

chaos: .venv/tested                  ## faults of every kind, seeded: make chaos ARGS="--faults 500 --seed 7 --write" (tests/chaos/RESULTS.md)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.chaos $(ARGS)

fuzz: .venv/tested                   ## damaged and hostile inputs: make fuzz ARGS="sweep ledger --inputs 10000 --seed 3" (tests/fuzz/README.md)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.fuzz $(ARGS)

audit: .venv/audit/bin/pip-audit     ## known vulnerabilities of the pinned packages; needs the network, and fails without it
	.venv/audit/bin/pip-audit --strict --no-deps --disable-pip -r constraints.txt $(ARGS)

lint: .venv/linted
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

bench: .venv/benched                 ## ratios against what people use instead
	$(BIN)/python -m tests.benchmarks $(ARGS)

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "eureka needs Python 3.11 or newer; try make PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) -e '.[serve,search]'
	touch $@

.venv/tested: .venv/installed
	$(PIP) -e '.[test]'
	touch $@

.venv/benched: .venv/tested
	$(PIP) -e '.[bench]'
	touch $@

.venv/audit/bin/pip-audit: .venv/installed
	$(BIN)/python -m venv .venv/audit
	.venv/audit/bin/pip --disable-pip-version-check install --quiet 'pip-audit>=2.7'

.venv/linted: .venv/installed
	$(PIP) -e '.[lint]'
	touch $@

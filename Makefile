# Two commands: `make figures` and `make test`. Each creates the environment in .venv if needed.
# Prerequisites: make and Python >= 3.11 (set PYTHON to choose one).
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
# Tests in two processes; one that hangs is ended once (see pyproject.toml), and not begun again.
TWO    := -n 2 --dist loadscope --max-worker-restart 0

.DEFAULT_GOAL := help
.PHONY: help ready figures test notebooks faults bench site lab laptop lint lock clean

help: ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

ready: ## make the environment in .venv, unless it is there and what the lock says
	@$(PYTHON) .ci/ready.py

figures: ready ## run the notebooks: small experiments computed here, figures from records
	$(BIN)/hybrid figures

test: ready ## run every check: style, types, unit tests, notebooks compared
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest $(TWO)
	$(BIN)/hybrid scoreboard --check
	$(BIN)/hybrid figures --out build/figures
	$(BIN)/python .ci/notebooks.py build/notebooks
	$(BIN)/python -m pytest --nbval $(TWO) -p tests.conftest -p no:cacheprovider build/notebooks

notebooks: ready ## run the notebooks in place and scrub their metadata
	env $$($(BIN)/python -m hybrid.runs.instructions) $(BIN)/jupyter execute --inplace notebooks/*.ipynb
	$(BIN)/python .ci/notebooks.py

faults: ready ## attack in sixteen ways (25 minutes); writes data/results/faults.json, docs/faults.md
	$(BIN)/python .ci/faults.py

bench: ready ## measure speed against the usual ways to code it; writes build/bench.json
	$(BIN)/python -m tests.bench

site: ready ## the pages of docs/, the notebooks and a reference as a site: build/site
	rm -rf build/site build/doctrees
	$(BIN)/python -m sphinx -q -W --keep-going -c docs -d build/doctrees . build/site

lab: ready ## open the notebooks in JupyterLab
	$(BIN)/jupyter lab notebooks

laptop: ready ## run all experiments at laptop scale (hours; resumes where it stopped)
	$(BIN)/hybrid run fault_tolerance --profile laptop
	$(BIN)/hybrid run classification --profile laptop
	$(BIN)/hybrid run few_shot --profile laptop
	$(BIN)/hybrid run continual --profile laptop
	$(BIN)/hybrid run deployment --profile laptop
	$(BIN)/hybrid run event_tolerance --profile laptop

lint: ready ## format and check the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/mypy

lock: ready ## renew requirements.lock and environment.yml
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile pyproject.toml --upgrade --quiet -o requirements.lock
	$(BIN)/python .ci/environment.py

clean: ## remove everything that was built, except records and figures
	rm -rf $(VENV) build .pytest_cache .mypy_cache .ruff_cache .hypothesis

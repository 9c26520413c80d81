# Two commands: `make figures` and `make test`. Each creates the environment in .venv if needed.
# Prerequisites: make and Python >= 3.11 (set PYTHON to choose one).
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
QUIETLY := --quiet --disable-pip-version-check -c requirements.lock
# The extra `peers` and what it needs, but for torchvision and torchaudio.
PEERS  := nirtorch sanafe snntorch norse spikingjelly loguru neurobench onnx onnx-ir onnxscript onnxruntime \
	ml-dtypes protobuf flatbuffers

.DEFAULT_GOAL := help
.PHONY: help figures test notebooks faults bench book lab laptop lint lock clean

help: ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

$(READY): pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 11) and f"Python >= 3.11 is needed, {v.major}.{v.minor} found: set PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install $(QUIETLY) -e '.[notebooks,events,cluster,nir,dev]'
	$(BIN)/python -m pip install $(QUIETLY) --no-deps $(PEERS)
	@touch $@

figures: $(READY) ## run the notebooks: figures/smoke computed here, figures/laptop from records
	$(BIN)/hybrid figures

test: $(READY) ## run every check: style, types, unit tests, notebooks compared
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n 2 --dist loadscope
	$(BIN)/hybrid scoreboard --check
	$(BIN)/hybrid notebooks --profile smoke --out build/figures --jobs 2
	$(BIN)/python .ci/notebooks.py build/notebooks/smoke
	$(BIN)/python -m pytest --nbval -n 2 --dist loadscope -p no:cacheprovider build/notebooks/smoke

notebooks: $(READY) ## run the notebooks in place (smoke) and scrub their metadata
	$(BIN)/jupyter execute --inplace notebooks/*.ipynb
	$(BIN)/python .ci/notebooks.py

faults: $(READY) ## kill, fill, damage and race: prints what was survived; writes build/faults.json
	$(BIN)/python .ci/faults.py

bench: $(READY) ## measure speed against the usual ways to code it; writes build/bench.json
	$(BIN)/python -m tests.bench

book: $(READY) ## static HTML pages of the notebooks, for readers without Jupyter: build/book
	$(BIN)/hybrid book

lab: $(READY) ## open the notebooks in JupyterLab
	$(BIN)/jupyter lab notebooks

laptop: $(READY) ## run all experiments at laptop scale (hours; resumes where it stopped)
	$(BIN)/hybrid run fault_tolerance --profile laptop
	$(BIN)/hybrid run classification --profile laptop
	$(BIN)/hybrid run few_shot --profile laptop
	$(BIN)/hybrid run continual --profile laptop
	$(BIN)/hybrid run deployment --profile laptop
	$(BIN)/hybrid run event_tolerance --profile laptop

lint: $(READY) ## format and check the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/mypy

lock: $(READY) ## renew requirements.lock and environment.yml
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 --upgrade --no-annotate --no-header --quiet -o requirements.lock
	$(BIN)/python .ci/environment.py

clean: ## remove everything that was built, except records and figures
	rm -rf $(VENV) build .pytest_cache .mypy_cache .ruff_cache .hypothesis

# The targets set up everything that they need, except Python 3.11, make and git.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# pdoc shows only the public names of raygrid itself; the packages below it are named one by one
PACKAGES = $(subst /,.,$(basename $(filter-out raygrid/py.typed,$(wildcard raygrid/[a-z]*))))
SHARED ?= ../shared

.PHONY: demo test test-slow fuzz lint docs validate-cluster api audit real real-splits peers

demo: $(READY)
	$(BIN)/python experiments/full_grid.py --preset demo

test: $(READY) lint
	$(BIN)/python -m pytest -q -m "not slow" -n 2

test-slow: $(READY)
	$(BIN)/python -m pytest -q -m slow --durations=12

# Draws new examples of each of the nine kinds. A failure prints its seed.
FUZZ_SECONDS ?= 300
fuzz: $(READY)
	$(BIN)/python -m pytest -q tests/fuzz -m slow --hypothesis-seed=random --fuzz-seconds=$(FUZZ_SECONDS)

# Only files that git tracks: your own studies may be here, too, in any style.
lint: $(READY)
	git ls-files "*.py" | xargs $(BIN)/ruff check
	git ls-files "*.py" | xargs $(BIN)/ruff format --check
	git ls-files "*.py" ":!tests" | xargs $(BIN)/mypy
	$(BIN)/lint-imports

# The pages of docs/ as one site, without the network; a broken link, or a page outside the navigation, fails.
docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "open build/site/index.html, or with search: $(BIN)/mkdocs serve"

validate-cluster: $(READY)
	$(BIN)/raygrid check-cluster --template cluster.yaml docs/how-to/cluster-gcp.yaml docs/how-to/cluster-local.yaml

# The reference of every public name, from the docstrings.
api: $(READY)
	PDOC_ALLOW_EXEC=1 $(BIN)/pdoc raygrid $(PACKAGES) --docformat google -o build/api
	@echo "open build/api/index.html"

# Known vulnerabilities of the pinned versions, from a database on the network.
audit: $(READY)
	$(BIN)/uv tool run pip-audit -r constraints.txt --no-deps --disable-pip

# The small real samples are not part of the project: SHARED names the folder that holds data/build_layouts.py.
real: $(READY)
	test -d data/real || $(BIN)/python $(SHARED)/data/build_layouts.py data/real
	$(BIN)/python experiments/real_samples.py --data-root data/real

# The libraries that crafting, agreement and whole_grid in benchmarks/ compare with, without their (older) dependencies.
peers: $(READY)
	$(BIN)/uv pip install -q --python $(BIN)/python --no-deps -r benchmarks/peers.txt

# All of ChestX-ray14's metadata, 112,120 rows without images: not part of the project either.
real-splits: $(READY)
	@test -d $(SHARED)/data/chestxray14 || { echo "needs $(SHARED)/data/chestxray14: set SHARED to its folder"; exit 1; }
	$(BIN)/python analysis/check_chestxray14_splits.py $(SHARED)

$(READY): constraints.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt uv
	$(BIN)/uv pip install -q --python $(BIN)/python -c constraints.txt -e ".[test,real]"
	touch $@

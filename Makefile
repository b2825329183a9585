# The two commands of the README: `make bench` and `make test`. Both set up .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
TOOLS := $(VENV)/.tools
OUT ?= bench-results
WORKERS ?= 2
PEERS := $(VENV)/.peers
SITE := $(VENV)/.site
VALIDATOR := $(VENV)/node/node_modules/gltf-validator/package.json
ROWS ?= $(if $(findstring --quick,$(ARGS)),kernels-quick.json,docs/performance.json)

.PHONY: bench bench-kernels test test-slow gltf-validator lint docs viewer info clean

# An unpinned torch may bring gigabytes of CUDA; constraints.txt pins the build that is tested.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	@touch $(READY)

# What tests, style checks and the documentation need: more to fetch than the bench is worth waiting for.
$(TOOLS): $(READY)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test]'
	@touch $(TOOLS)

# The main job: every representation with every extractor that fits, on the stress suite and on the meshes in DATA.
bench: $(READY)
	$(BIN)/shapewright bench --dataset stress-suite $(if $(DATA),--data '$(DATA)') --workers $(WORKERS) --out '$(OUT)' $(ARGS)

# Every kernel beside the fastest libraries that pip installs, then the tables and plots of docs/performance.md.
# ARGS=--quick for a minute's look, which leaves the document alone; NOTE='...' for what its reader should know.
bench-kernels: $(PEERS)
	$(BIN)/python benchmarks/kernels.py $(if $(DATA),--data '$(DATA)') $(if $(NOTE),--note '$(NOTE)') --json '$(ROWS)' $(ARGS)
	$(if $(findstring --quick,$(ARGS)),,$(BIN)/python benchmarks/report.py '$(ROWS)' --measure-warmup)

$(PEERS): $(READY)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[bench]'
	@touch $(PEERS)

test: $(TOOLS)
	$(BIN)/python -m pytest -m 'not slow' -n auto --dist loadscope $(ARGS)

# The Khronos glTF validator, which tests hold written GLB files against where it is there; needs Node.js and npm.
gltf-validator: $(VALIDATOR)

$(VALIDATOR):
	npm install --silent --no-audit --no-fund --no-save --prefix $(VENV)/node gltf-validator@2.0.0-dev.3.10

test-slow: $(TOOLS)
	$(BIN)/python -m pytest -m slow $(ARGS)

lint: $(TOOLS)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The documentation as pages in build/docs; a warning is an error.
docs: $(SITE)
	$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going docs build/docs
	@echo build/docs/index.html

$(SITE): $(READY)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	@touch $(SITE)

# The script of the report page, bundled from its sources; needs Node.js 18 or later. The build is committed.
viewer:
	cd framework/shapewright/report/viewer && npm ci --no-audit --no-fund && npm run build

info: $(READY)
	$(BIN)/shapewright info

# Compiled kernels go too: Numba's cache does not notice an edit in a module that a kernel imports.
clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find kernels plugins -name '*.nb[ic]' -delete

# Everything runs in a virtual environment of its own; no system package but Python and make is needed.
PYTHON ?= python3
VENV ?= .venv
# A package index with CPU-only builds of torch, where the default one is too large. Empty: the default index.
TORCH_INDEX ?=
# The versions that were tested. Empty: whatever pip finds.
CONSTRAINTS ?= -c constraints.txt
# Processes for the notebooks' run in `make test`.
WORKERS ?= 1

# A browser for `make browser`. Empty: the one on this machine, or Playwright's own.
CHROMIUM ?=
export CHROMIUM

# OpenMP's threads sleep while they wait for one another, instead of spinning on cores that others could use.
OMP_WAIT_POLICY ?= PASSIVE
export OMP_WAIT_POLICY

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check $(CONSTRAINTS)
SENTENCE := The weights came with the package, and this voice and this face were made by it.

help:  ## this list
	@echo "vasa_ref: a course in notebooks that builds VASA-1, and a package that trains"
	@grep -E '^[a-z-]+:.*## ' $(firstword $(MAKEFILE_LIST)) | sed -E 's/^([a-z-]+):.*## /\1|/' | \
		while IFS='|' read -r name text; do printf '  make %-9s %s\n' "$$name" "$$text"; done

$(VENV)/installed: setup.py settings.ini constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "Python 3.10 or newer is needed; set PYTHON=..." >&2; exit 2; }
	@$(PYTHON) -m venv $(VENV) || { echo "$(PYTHON) cannot make virtual environments: install python3-venv" >&2; exit 2; }
	@echo "installing into $(VENV)"
	@if [ -n "$(TORCH_INDEX)" ]; then $(PIP) --index-url "$(TORCH_INDEX)" torch; fi
	@$(PIP) -e .
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed
	@echo "installing the tools of development into $(VENV)"
	@$(PIP) -e ".[dev]"
	@touch $@

$(VENV)/installed-browser: $(VENV)/installed-dev
	@$(PIP) -e ".[browser]"
	@[ -n "$(CHROMIUM)" ] || command -v chromium chromium-browser google-chrome > /dev/null || $(BIN)/playwright install chromium
	@touch $@

demo: $(VENV)/installed  ## a portrait speaks: demo/out.mp4 with the shipped weights
	@mkdir -p demo
	$(BIN)/vasa portrait -o demo/portrait.png --seed 46
	$(BIN)/vasa say "$(SENTENCE)" -o demo/speech.wav
	$(BIN)/vasa animate demo/portrait.png demo/speech.wav -o demo/out.mp4 --emotion happy

test: $(VENV)/installed-dev  ## lint, tests, every notebook, every page, and whether notebooks, modules and README agree
	$(BIN)/ruff check vasa_ref tests tools setup.py
	$(BIN)/python tools/check_notebooks.py
	$(BIN)/python tools/readme.py --check
	$(BIN)/python tools/check_site.py
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q tests
	OMP_NUM_THREADS=1 $(BIN)/nbdev_test --n_workers $(WORKERS) --timing --do_print

lab: $(VENV)/installed-dev  ## JupyterLab on the notebooks
	$(BIN)/jupyter lab nbs

docs: $(VENV)/installed-dev  ## check every page; with Quarto on this machine, also build the site into _docs
	$(BIN)/python tools/check_site.py
	@if command -v quarto > /dev/null; then cd _proc && quarto render --no-cache && rm -rf ../_docs && mv _docs ..; \
	else echo "The pages are checked. Quarto is not installed, so the site was not rendered: see https://quarto.org"; fi

bench: $(VENV)/installed  ## every quality figure of the shipped weights, and the speed of this machine
	@mkdir -p demo
	$(BIN)/vasa bench --json demo/bench.json
	$(BIN)/vasa latency --json demo/latency.json
	$(BIN)/python tools/start_time.py

readme: $(VENV)/installed-dev  ## README.md from nbs/index.ipynb
	$(BIN)/python tools/readme.py

notebooks: $(VENV)/installed-dev  ## run every notebook and save its outputs
	$(BIN)/python tools/run_notebooks.py

student: $(VENV)/installed-dev  ## the course without solutions, in student/
	$(BIN)/python tools/student.py

slides: $(VENV)/installed-dev  ## slides of each week, in _slides/: pages that need nothing beside them
	$(BIN)/python tools/slides.py

browser: $(VENV)/installed-browser  ## tests in a browser: pages, slides and panels open, sliders move, nothing overflows a phone
	$(BIN)/python -m pytest -q tests/browser

.PHONY: help demo test lab docs bench readme notebooks student slides browser

# Every target works from a bare clone that has Python 3.11 or newer and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
FOREIGN := .venv-foreign
FOREIGN_READY := $(FOREIGN)/.ready

.PHONY: demo test test-long test-slow test-browser test-foreign lint format speed speed-gpu speedrun results clean

demo: $(READY)        ## meta-train on sinusoids, print the table, draw the figures (under 3 minutes)
	$(BIN)/python examples/sinusoid.py --out runs/demo

test: $(READY)        ## the default suite, with the doctests
	$(BIN)/python -m pytest -q -n 2

test-long: $(READY)   ## what the default suite leaves to .ci/run: whole commands, trainings, other processes
	$(BIN)/python -m pytest -q -n 2 -m "long and not slow"

test-slow: $(READY)   ## what takes long: 50 kills, long trainings
	$(BIN)/python -m pytest -q -m slow

test-browser: $(READY) ## the whole page in Chromium, if it is installed
	$(BIN)/python -m pytest -q -n 2 tests/serve/web -m "long or slow or not slow"

test-foreign: $(FOREIGN_READY) ## modules and loaders of other libraries, in an environment of their own
	OMP_NUM_THREADS=1 $(FOREIGN)/bin/python -m pytest -q -n 2 -m foreign tests/foreign

lint: $(READY)        ## style, imports between layers, dependencies, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/deptry src
	$(BIN)/pyright

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

speed: $(READY)       ## time, memory and gradients against other libraries, and the page with the figures (hours)
	$(BIN)/python benchmarks/speed/install_peers.py --missing
	$(BIN)/python benchmarks/speed/run.py
	$(BIN)/python benchmarks/speed/report.py
	$(BIN)/python benchmarks/speed/figures.py
	$(BIN)/python benchmarks/readme_results.py

speed-gpu: $(READY)   ## the same on one CUDA GPU, in less than six minutes, and the page with the figures
	$(BIN)/python benchmarks/speed/gpu.py
	$(BIN)/python benchmarks/speed/report.py

speedrun: $(READY)    ## minutes to the published accuracy of MAML on Omniglot, on this machine (FASTADAPT_DATA; hours)
	$(BIN)/python benchmarks/speedrun.py
	$(BIN)/python benchmarks/readme_results.py

results: $(READY)     ## the page of reproduced results and its figures, from the committed result files
	$(BIN)/python benchmarks/published/figures.py
	$(BIN)/python benchmarks/published/report.py
	$(BIN)/python benchmarks/showcases.py
	$(BIN)/python benchmarks/readme_results.py

# torch is pinned in the install line itself: an unpinned one may bring gigabytes of CUDA.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'fastadapt needs Python 3.11 or newer, this is ' + sys.version.split()[0])"
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch==2.13.0 -e ".[plot,dev]"
	$(BIN)/python -c "import torch; assert torch.__version__.split('+')[0] == '2.13.0', torch.__version__"
	touch $@

$(FOREIGN_READY): pyproject.toml constraints.txt tests/foreign/requirements.txt
	test -x $(FOREIGN)/bin/python || $(PYTHON) -m venv $(FOREIGN)
	$(FOREIGN)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch==2.13.0 -r tests/foreign/requirements.txt -e .
	$(FOREIGN)/bin/python -c "import torch; assert torch.__version__.split('+')[0] == '2.13.0', torch.__version__"
	$(FOREIGN)/bin/python -c "import importlib.util as u; assert not u.find_spec('torchvision'), 'torchvision came in'"
	touch $@

clean:
	rm -rf $(VENV) $(FOREIGN) build dist .pytest_cache .ruff_cache

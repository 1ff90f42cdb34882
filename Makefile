# Every target sets up .venv by itself: a fresh machine needs Python 3.11 or newer, make, and the package registry.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
CONFIG ?=
RUN    ?=
ARGS   ?=
# TORCH=cpu installs PyTorch without CUDA. Its builds lie in an index of their own, which pip is told by its own settings:
#   PIP_EXTRA_INDEX_URL=ADDRESS make setup TORCH=cpu
TORCH  ?=
STAMP  := $(VENV)/.installed

cpu = $(filter cpu,$(TORCH))
run_options = $(if $(CONFIG),--config "$(CONFIG)") $(if $(RUN),--run "$(RUN)") $(ARGS)

.PHONY: audit rescore setup test check docs bench clean help

help:
	@echo "make audit   [CONFIG=configs/sandbox.yaml] [RUN=runs/NAME]      generate, score, measure, report"
	@echo "make rescore ARCHIVE=PATH_OR_URL [CONFIG=...] [RUN=...]         score images that exist"
	@echo "make setup | test | check | docs | bench | clean                    TORCH=cpu: PyTorch without CUDA"

audit: $(STAMP)
	@$(BIN)/allfour audit $(run_options)

rescore: $(STAMP)
	@test -n "$(ARCHIVE)" || { echo "error: say which images: make rescore ARCHIVE=PATH_OR_URL" >&2; exit 2; }
	@$(BIN)/allfour rescore "$(ARCHIVE)" $(run_options)

setup: $(STAMP)

# Bytecode is written, whatever the shell says: many processes of the tests read the same modules.
test: $(STAMP)
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder $(ARGS)

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python scripts/check_types.py

docs: $(STAMP)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[docs]'
	@$(BIN)/zensical build --strict --clean

bench: $(STAMP)
	$(BIN)/python scripts/bench_scoring.py $(ARGS)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: $(PYTHON) is older than 3.11; name a newer one: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing the pinned dependencies into $(VENV) ($(if $(cpu),PyTorch without CUDA,about 7 GB where torch is a CUDA build); minutes, once)"
	@sed -e '' $(if $(cpu),-e 's/^\(torch\|torchvision\)==[^+]*$$/&+cpu/' -e '/^nvidia-/d;/^cuda-/d;/^triton==/d') constraints.txt > $(VENV)/constraints.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint $(VENV)/constraints.txt --editable '.[dev,face,s3]' || \
	  { $(if $(cpu),echo "error: if no torch +cpu was found: name the index of PyTorch's CPU builds to pip (PIP_EXTRA_INDEX_URL) and try again" >&2;) exit 2; }
	@$(BIN)/python -m compileall -q allfour configs models pipeline
	@PYTHONDONTWRITEBYTECODE= $(BIN)/python -c 'from allfour.pipeline.report.html import compile_all; compile_all()'
	@touch $@

clean:
	rm -rf $(VENV) build dist .cache .pytest_cache .mypy_cache .ruff_cache *.egg-info

# `make help` tells what there is. Every target makes .venv first where it is missing or stale; nothing is installed outside of it.

PYTHON = python3
PROFILE = full
DATA = auto
TARGET =
TASK = forecast
INPUTS =
CLEAN =
CONTEXT =
HORIZON =
WINDOWS =
MODELS =
BOARD = pynq-z2
SCHEDULER =
STORAGE =
CMSIS_NN =
MURISCV_NN =
export PROFILE TASK DATA TARGET INPUTS CLEAN CONTEXT HORIZON WINDOWS MODELS SCHEDULER STORAGE CMSIS_NN MURISCV_NN

define HELP
make figures   run the notebooks and write every figure, table and number to paper_figures/
make test      run the tests
make site      the executed notebooks, the READMEs, the tables and the live model as a site: build/site/
make test-site  that site in Chromium, every page and every link (Debian: apt install chromium)
make attack    mutated files, random models, threads, kills and power cuts at length: tests/attack/results.csv (one to two hours)
make lab       open the notebooks in JupyterLab
make bench     print accuracy and timings beside what they should be (brings the figures up to date, runs the tests)
make bench-peers  train the same model by Brevitas and by torchao, in an environment of their own, and compare speed and error
make bench-kernels  the default model's products by CMSIS-NN, muRISCV-NN and this project, in instructions of emulated cores: to qatlib/mcu/measured
make verify    every committed model through the simulated engine, every window, and random models: what has changed, to overlays/engine/measured (up to an hour)
make verify-boards  boards at a serial port, simulated with their line, against NumPy: to overlays/serial/measured (a quarter of an hour)
make synth     area and speed of the engine (Yosys, nextpnr)
make board     one archive for a PYNQ board: wheel, models, notebook, install script, and the overlay where it was made
make overlay   bitstream and facts of BOARD: ulx3s and icebreaker by open tools, which are in .venv; pynq-z2 and kv260 by Vivado
make flash     that of BOARD=ulx3s or icebreaker onto the board that is plugged in, by openFPGALoader
make test-board  install that archive beside pynq 3.1.2 and 4.0.0, without torch, and run notebook 07
make clean     remove build/ (executed notebooks, cached runs) and caches; .venv and paper_figures/ stay

Variables of make figures, as in `make figures PROFILE=quick`:
  PROFILE=full     full: 5 seeds and the whole grid; quick: 1 seed and a small grid
  DATA=auto        etth1, etth2, jfk-weather, or a CSV file; auto: etth1 where it can be had, else jfk-weather
  TASK=forecast    what DATA is for: forecast, classify (TARGET is the column of labels) or detect (faults)
  TARGET=column    the CSV's column to forecast; several with commas between, all of numbers where none is named
  INPUTS=column    columns that notebook 12's models read besides
  CLEAN=1          repair the CSV first, and report what was changed
  CONTEXT=336      samples the model looks at
  HORIZON=24       samples it forecasts
  SCHEDULER=       tcp://host:port of a Dask scheduler whose workers compute the runs; empty: this machine's cores
  STORAGE=         URL of a database for the searches, as in postgresql://user@host/name; empty: a journal file under build/
Variables of make bench-kernels:
  CMSIS_NN=        folder of a git checkout of github.com/ARM-software/CMSIS-NN
  MURISCV_NN=      folder of a git checkout of github.com/tum-ei-eda/muriscv-nn
Variables of make verify:
  WINDOWS=         test windows of each model; all of them where it is empty
  MODELS=300       random models on each configuration
Variable of make overlay and make flash:
  BOARD=pynq-z2    pynq-z2, kv260, ulx3s or icebreaker
Variable of every target:
  PYTHON=python3   Python 3.11 or 3.12 to make .venv with
endef

GIVEN := $(foreach v,$(.VARIABLES),$(if $(filter command,$(firstword $(origin $v))),$v))
UNKNOWN := $(filter-out PYTHON PROFILE TASK DATA TARGET INPUTS CLEAN CONTEXT HORIZON WINDOWS MODELS BOARD SCHEDULER STORAGE CMSIS_NN MURISCV_NN,$(GIVEN))
ifneq ($(UNKNOWN),)
$(error unknown variable $(UNKNOWN): see make help)
endif

.DEFAULT_GOAL := help
.PHONY: help figures test site test-site attack lab bench bench-peers bench-kernels verify verify-boards synth board overlay flash test-board clean
.DELETE_ON_ERROR:
.NOTPARALLEL: # one notebook uses every core
.SUFFIXES:

NOTEBOOKS := $(sort $(wildcard notebooks/[0-9]*.ipynb))

# The name holds what .venv was made from, and where: another lock or another folder, another .venv.
VENV := .venv/made-from-$(shell { cat requirements.lock pyproject.toml; pwd; } | cksum | tr ' ' -)
PEERS := .venv-peers/made-from-$(shell { cat requirements-peers.lock pyproject.toml; pwd; } | cksum | tr ' ' -)

help:
	$(info $(HELP))@:

# Every notebook is looked at: times say little here (git and editors change them, and a figure may be deleted), so qatlib.make.figures compares
# contents. It knows which notebook takes results from which, and keeps a second `make figures` out until the last one is done.
figures: | $(VENV)
	@.venv/bin/python -m qatlib.make.figures $(NOTEBOOKS)

test: | $(VENV)
	.venv/bin/python -m pytest --numprocesses auto --dist loadfile

site: | $(VENV)
	@.venv/bin/python -m qatlib.make.site

test-site: | $(VENV)
	.venv/bin/python -m pytest --numprocesses 2 --dist worksteal tests/site/live.py tests/site/pages.py

attack: | $(VENV)
	.venv/bin/python -m tests.attack

lab: | $(VENV)
	.venv/bin/python -m jupyterlab notebooks/00_start_here.ipynb

bench: | $(VENV)
	.venv/bin/python -m qatlib.make.bench

bench-peers: | $(PEERS)
	.venv-peers/bin/python -m qatlib.make.peers

bench-kernels: | $(VENV)
	.venv/bin/python -m qatlib.make.kernels_beside

verify: | $(VENV)
	.venv/bin/python -m qatlib.make.verify

verify-boards: | $(VENV)
	.venv/bin/python -m qatlib.make.open_boards

synth: | $(VENV)
	.venv/bin/python -m qatlib.engine.synthesis

board: | $(VENV)
	.venv/bin/python -m qatlib.make.packaging archive

overlay: | $(VENV)
	.venv/bin/python -m qatlib.engine.$(if $(wildcard overlays/$(BOARD)/top.sv),lattice,vivado) $(BOARD)

flash: | $(VENV)
	.venv/bin/python -m qatlib.make.flash $(BOARD)

test-board: | $(VENV)
	.venv/bin/python -m qatlib.make.packaging rehearse 3.1.2
	.venv/bin/python -m qatlib.make.packaging rehearse 4.0.0

clean:
	rm -rf build .pytest_cache .ruff_cache
	find qatlib tests -name __pycache__ -prune -exec rm -rf {} +

# An environment in the folder $(1), from the lock $(2)
define environment
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' || { echo >&2 \
	"$(PYTHON) is not Python 3.11 or 3.12, which the pinned packages need (pynq has none newer). Install one and give it: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || { echo >&2 \
	"$(PYTHON) cannot make virtual environments. Install its venv module (Debian, Ubuntu: apt install python3-venv)"; exit 1; }
	rm -rf $(1)
	$(PYTHON) -m venv $(1)
	$(1)/bin/python -m pip install --disable-pip-version-check -r $(2)
	$(1)/bin/python -m pip install --disable-pip-version-check --no-deps --no-build-isolation -C editable_mode=compat -e .
	@touch $@
endef

$(VENV):
	$(call environment,.venv,requirements.lock)

$(PEERS):
	$(call environment,.venv-peers,requirements-peers.lock)

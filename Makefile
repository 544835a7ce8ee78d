# From nothing to an aligned model. `make` lists what there is; `make pipeline` does all of it.
#
# Each stage is a real file target: its manifest. What a stage was made from (recipe, data, code) it
# writes itself to runs/RUN/.deps/STAGE.mk, as `gcc -MD` does, so that make and the stage's own
# fingerprint agree. All paths are relative: the project may lie under spaces and Hangul.

RECIPE ?= stages/recipes/tiny.yaml
# Run directory runs/RUN: the recipe's `name`, or its file name.
RUN ?= $(or $(shell sed -n 's/^name: *"\{0,1\}\([A-Za-z0-9._-]*\).*/\1/p' '$(RECIPE)' 2>/dev/null),$(basename $(notdir $(RECIPE))))
# Settings for one call: make sft SET="sft.trainer.learning_rate=1e-4"
SET ?=
# Python that .venv is made with, and an extra package index (PyTorch's for CPU wheels).
PYTHON ?= python3
TORCH_INDEX ?=

empty :=
comma := ,
space := $(empty) $(empty)
run := runs/$(RUN)
py := .venv/bin/python
stage = $(py) -m stages.$(1) '$(RECIPE)' 'run=$(RUN)' $(2) $(SET)
made = $(run)/$(1)/manifest.json
# What the evaluation compares and a stage trains: `policies: [ … ]` of the recipe, or of SET.
policies := $(shell { cat '$(RECIPE)'; echo '$(SET)'; } 2>/dev/null | sed -n \
  -e 's/^[a-z: {]*policies: *\[\([^]]*\)\].*/\1/p' -e 's/.*policies=[^[]*\[\([^]]*\)\].*/\1/p' | tail -n 1)
trained := $(filter dpo ppo rloo grpo,$(subst $(comma), ,$(or $(policies),dpo ppo)))
# The reward stage, unless `ppo.reward_model` of the recipe, or of SET, names a ready-made one.
scorer := $(if $(shell { cat '$(RECIPE)'; echo '$(SET)'; } 2>/dev/null | sed -n \
  -e '/reward_model[:=] *\(null\|~\)/d' -e '/^[a-z0-9_:{},. ]*reward_model:/p' -e '/reward_model[.a-z]*=/p'),,reward)
# What every stage waits for; with SET the stage itself decides whether there is something to do.
inputs := .venv/.ready $(subst $(space),\ ,$(RECIPE)) $(if $(SET),FORCE)

.DEFAULT_GOAL := help
.SUFFIXES:
.NOTPARALLEL: # stages share the run directory's lock
.PRECIOUS: $(run)/%/manifest.json # a stopped stage leaves the last good artifact as it was
.PHONY: help setup pipeline sft reward dpo ppo rloo grpo evaluate report test mutants torture lint bench-ppo gpu-check clean FORCE

help: ## show this list
	@echo 'make TARGET [RECIPE=stages/recipes/tiny.yaml] [RUN=name] [SET="key=value …"]'
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-10s %s\n", $$1, $$2 }' Makefile

setup: .venv/.ready ## make .venv with every library (TORCH_INDEX=URL of an index with CPU builds of torch)

pipeline: .venv/.ready ## all stages below, in one process: the way to run a recipe
	@$(py) -m stages.pipeline '$(RECIPE)' 'run=$(RUN)' $(SET)

sft: $(call made,sft) ## instructions → policy that answers
reward: $(call made,reward) ## preference pairs → reward model
dpo: $(call made,dpo) ## preference pairs → aligned policy, without a reward model
ppo: $(call made,ppo) ## prompts + reward model → aligned policy
rloo: $(call made,rloo) ## the same by RLOO (TRL), on the terms of ppo
grpo: $(call made,grpo) ## the same by GRPO (TRL), on the terms of ppo
evaluate: $(call made,evaluate) ## all policies on held-out prompts, with confidence intervals
report: $(call made,report) ## report.html and report.md

test: .venv/.ready ## run the tests
	@$(py) -m pytest

mutants: .venv/.ready ## change one formula at a time: a test must fail each time (FILES=align/maths/kl.py: only there)
	@$(py) -m tests.mutants $(FILES)

lint: .venv/.ready ## ruff, ruff format, mypy
	@$(py) -m ruff check
	@$(py) -m ruff format --check
	@$(py) -m mypy

torture: .venv/.ready ## kill -9 a tiny PPO stage at 20 random moments, run it again, compare bits (KILLS=20 SEED=0)
	@OMP_NUM_THREADS=1 $(py) -m tests.torture 'kills=$(or $(KILLS),20)' 'seed=$(or $(SEED),0)'

bench-ppo: .venv/.ready ## our PPO against TRL 1.12.0's (QUICK=1: minutes; THREADS=2 CASES=fixed,ragged,second,gold)
	@$(py) -m tests.benchmarks.bench_ppo --run '$(run)' --recipe '$(RECIPE)' \
	  $(if $(QUICK),--quick) $(if $(THREADS),--threads $(THREADS)) $(if $(CASES),--cases $(CASES)) \
	  $(if $(SET),--set $(SET))

gpu-check: .venv/.ready ## the same on CUDA: tokens/s, MFU, memory, invariants (no GPU: says what is open)
	@$(py) -m tests.benchmarks.gpu_check

clean: ## remove the run directory runs/RUN (the libraries stay: rm -r .venv)
	rm -rf '$(run)'

# ------------------------------------------------------------------------------------------ stages

$(call made,sft): $(inputs)
	@$(call stage,sft)

$(call made,reward): $(inputs) $(call made,sft)
	@$(call stage,reward)

$(call made,dpo): $(inputs) $(call made,sft)
	@$(call stage,rlhf,method=dpo)

$(call made,ppo): $(inputs) $(foreach s,sft $(scorer),$(call made,$(s)))
	@$(call stage,rlhf,method=ppo)

$(call made,rloo): $(inputs) $(foreach s,sft $(scorer),$(call made,$(s)))
	@$(call stage,rlhf,method=rloo)

$(call made,grpo): $(inputs) $(foreach s,sft $(scorer),$(call made,$(s)))
	@$(call stage,rlhf,method=grpo)

$(call made,evaluate): $(inputs) $(foreach s,sft $(scorer) $(trained),$(call made,$(s)))
	@$(call stage,evaluate)

$(call made,report): $(inputs) $(call made,evaluate)
	@$(call stage,report)

FORCE:

$(subst $(space),\ ,$(RECIPE)): # a recipe that is missing is the stage's to complain about

-include $(wildcard $(run)/.deps/*.mk)

# ------------------------------------------------------------------------------------------ set-up
# The stamp is the last thing written: a set-up that broke off is taken up again.

.venv/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo 'error: PYTHON=$(PYTHON) is older than 3.11; give make setup PYTHON=python3.12'; exit 2; } >&2
	@echo 'set-up: installing into .venv; once, some minutes'
	@test -x $(py) || $(PYTHON) -m venv .venv
	@$(py) -c 'import torch' 2>/dev/null || { \
	  test -n '$(TORCH_INDEX)' || echo 'torch: without TORCH_INDEX pip may choose the CUDA build (several GB)'; \
	  $(pip) 'torch>=2.13'; }
	@$(pip) 'setuptools>=77'
	@$(pip) --no-build-isolation -e '.[dev]'
	@touch $@

pip = $(py) -m pip install --quiet --disable-pip-version-check -c constraints.txt \
  $(if $(TORCH_INDEX),--extra-index-url '$(TORCH_INDEX)')

# From nothing to an aligned model. `make` lists what there is; `make pipeline` does all of it.
#
# Each stage is a real file target: its manifest. Which stages there are and what each waits for, the
# program says: `python -m stages.rules` reads the recipe and writes the rules that are included
# below. What a stage was made from (recipe, data, code) it writes itself to
# runs/RUN/.deps/STAGE.mk, as `gcc -MD` does, so that make and the stage's own fingerprint agree.
# All paths are relative: the project may lie under spaces and Hangul.

RECIPE ?= stages/recipes/tiny.yaml
# Run directory runs/RUN: by default the recipe's `name`, or its file name.
RUN ?=
# Settings for one call: make sft SET="sft.trainer.learning_rate=1e-4"
SET ?=
# Python that .venv is made with, and an extra package index (PyTorch's for CPU wheels).
PYTHON ?= python3
TORCH_INDEX ?=
quoted = '$(subst ','\'',$(1))'

# A variable that is misspelt would be ignored by make, and another run be made than was meant.
known := RECIPE RUN SET PYTHON TORCH_INDEX \
  $(if $(filter mutants test-cpus,$(MAKECMDGOALS)),FILES) \
  $(if $(filter torture,$(MAKECMDGOALS)),KILLS SEED STAGES) \
  $(if $(filter bench-ppo,$(MAKECMDGOALS)),QUICK THREADS CASES)
given := $(foreach name,$(.VARIABLES),$(if $(filter command,$(firstword $(origin $(name)))),$(name)))
unknown := $(firstword $(filter-out $(known),$(given)))
nearest := import difflib, runpy, sys; name, *known = sys.argv[1:]; \
  near = difflib.get_close_matches(name.upper(), known, 1, 0.7); known = chr(32).join(known); \
  language = runpy.run_path("align/messages/language.py")["language"](); \
  said, did, kept = ( \
    ("오류: {}=: 그런 변수가 없습니다.", "{}=을(를) 쓰려고 했습니까?", \
     "쓸 수 있는 것: {}. 레시피의 설정은 SET=\"{}=값\"으로 지정하십시오") if language == "ko" else \
    ("error: {}=: unknown variable;", "did you mean {}=?", \
     "known: {}; a setting of the recipe is given as SET=\"{}=VALUE\"")); \
  print(said.format(name), did.format(near[0]) if near else kept.format(known, name))
ifneq ($(unknown),)
$(error $(shell $(PYTHON) -c $(call quoted,$(nearest)) $(call quoted,$(unknown)) $(known)))
endif
# The run directory is what the rules below say, never what stands in the environment.
override run :=

empty :=
space := $(empty) $(empty)
py := .venv/bin/python
stage = $(py) -m stages.$(1) $(call quoted,$(RECIPE)) $(call quoted,run=$(notdir $(run))) $(2) $(SET)
# What every stage waits for; with SET the stage itself decides whether there is something to do.
inputs := .venv/.ready $(subst $(space),\ ,$(RECIPE)) $(if $(SET),FORCE)

.DEFAULT_GOAL := help
.SUFFIXES:
.NOTPARALLEL: # stages share the run directory's lock
.PHONY: help setup pipeline test test-cpus mutants torture lint docs bench-ppo gpu-check clean FORCE

##@ Begin
help: ## show this list
	@echo 'make TARGET [RECIPE=stages/recipes/tiny.yaml] [RUN=name] [SET="key=value …"]'
	@awk -F ':.*## ' '/^##@ / { printf "\n%s\n", substr($$0, 5) } \
	  /^##@ One stage/ { system("$(PYTHON) align/config/methods.py") } \
	  /^[a-z-]+:.*## / { printf "  %-10s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo 'The same, with recipes written and explained: .venv/bin/align --help. Documentation: docs/index.md'

setup: .venv/.ready ## make .venv with every library (TORCH_INDEX=URL of an index with CPU builds of torch)

pipeline: .venv/.ready ## all stages of a recipe: the way to run one
	@$(py) -m stages.pipeline $(call quoted,$(RECIPE)) $(call quoted,run=$(RUN)) $(SET)

clean: ## remove the run directory runs/RUN (the libraries stay: rm -r .venv)
	@test -x $(py) || { echo 'nothing was made here yet'; exit 0; }; \
	  $(py) -m stages.clean $(call quoted,$(RECIPE)) $(call quoted,run=$(RUN)) $(SET)

##@ One stage, and what it waits for

##@ Develop
test: .venv/.ready ## run the tests, two files at a time
	@$(py) -m pytest -n 2 --dist loadfile

test-cpus: .venv/.ready ## the numeric tests on each instruction set of this CPU, 1 and 2 threads (FILES=tests/…: only there)
	@$(py) -m tests.cpus $(FILES)

mutants: .venv/.ready ## change one formula at a time: a test must fail each time (FILES=align/maths/kl.py: only there)
	@$(py) -m tests.mutants $(FILES)

lint: .venv/.ready ## ruff, ruff format, mypy
	@$(py) -m ruff check
	@$(py) -m ruff format --check
	@$(py) -m mypy

docs: .venv/.ready ## the documentation as a site in site/ (docs/ reads as well without it)
	@$(py) -c 'import material' 2>/dev/null || $(pip) --no-build-isolation -e '.[docs]'
	@$(py) -m mkdocs build --quiet

torture: .venv/.ready ## kill -9 each stage at 50 random moments, run it again, compare bits (KILLS=50 SEED=0 STAGES=sft,…)
	@OMP_NUM_THREADS=1 $(py) -m tests.torture 'kills=$(or $(KILLS),50)' 'seed=$(or $(SEED),0)' \
	  $(call quoted,stages=$(STAGES))

bench-ppo: .venv/.ready ## our PPO against TRL 1.12.0's (QUICK=1: minutes; THREADS=2 CASES=fixed,ragged,second,gold)
	@$(py) -m tests.benchmarks.bench_ppo --run '$(run)' --recipe $(call quoted,$(RECIPE)) \
	  $(if $(QUICK),--quick) $(if $(THREADS),--threads $(THREADS)) $(if $(CASES),--cases $(CASES)) \
	  $(if $(SET),--set $(SET))

gpu-check: .venv/.ready ## the same on CUDA: tokens/s, MFU, memory, invariants (no GPU: says what is open)
	@$(py) -m tests.benchmarks.gpu_check

# ------------------------------------------------------------------------------------------ stages
# Any other target is a stage's, or needs the name of the run, so the rules of this recipe are
# written first, each time: make reads itself again after that. Help and set-up never wait for it.

plain := help setup pipeline test test-cpus mutants lint docs torture gpu-check clean
wanted := $(filter-out $(plain),$(or $(MAKECMDGOALS),help))
ifneq ($(wanted),)
rules := $(shell mkdir -p runs/.rules; \
  rules="runs/.rules/$$(printf '%s' $(call quoted,$(RECIPE) $(RUN)) | cksum | tr ' ' '-').mk"; \
  test -e "$$rules" || : > "$$rules"; echo "$$rules")
include $(rules)
$(rules): .venv/.ready $(if $(MAKE_RESTARTS),,FORCE)
	@$(py) -m stages.rules $(call quoted,$(RECIPE)) $(call quoted,run=$(RUN)) 'goals=$(wanted)' $(SET) > '$@.new' \
	  && mv '$@.new' '$@' || { rm -f '$@.new'; exit 2; }
endif

.PHONY: $(stages)
.PRECIOUS: $(run)/%/manifest.json # a stopped stage leaves the last good artifact as it was

FORCE:

-include $(wildcard $(run)/.deps/*.mk)

# ------------------------------------------------------------------------------------------ set-up
# The stamp is the last thing written: a set-up that broke off is taken up again.

.venv/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo 'error: PYTHON=$(PYTHON) is older than 3.11; give make setup PYTHON=python3.12'; exit 2; } >&2
	@echo 'set-up: installing into .venv; once, some minutes'
	@test -x $(py) || $(PYTHON) -m venv .venv
	@$(py) -c 'import torch' 2>/dev/null || { \
	  test -n '$(TORCH_INDEX)' || test -e /dev/nvidiactl || test -e /dev/dxg || { echo $(call quoted,$(cuda_torch)); }; \
	  $(pip) 'torch>=2.13'; }
	@$(pip) 'setuptools>=77'
	@$(pip) --no-build-isolation -e '.[dev]'
	@touch $@

cuda_torch = torch: no NVIDIA device is here, and pip fetches torch with CUDA on Linux (some 5 GB with its \
  libraries); stop and give TORCH_INDEX=https://download.pytorch.org/whl/cpu for the build without

pip = $(py) -m pip install --quiet --disable-pip-version-check -c constraints.txt \
  $(if $(TORCH_INDEX),--extra-index-url '$(TORCH_INDEX)')

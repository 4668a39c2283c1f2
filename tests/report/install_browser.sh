#!/usr/bin/env bash
# Installs axe-core and playwright-core with npm in the cache, for the tests of the HTML report in Chromium.
set -euo pipefail

to=${XDG_CACHE_HOME:-$HOME/.cache}/pytest-etcdtls/browser
mkdir -p "$to"
npm install --silent --no-save --no-package-lock --no-audit --no-fund --ignore-scripts --prefix "$to" \
    axe-core@4.14.1 playwright-core@1.65.1

#!/usr/bin/env bash
# Builds the image pytest-etcdtls/runner from this tree: build-runner.sh BASE
#
# BASE is an image with Python 3.11 or newer and its module venv, such as python:3.13-slim. The wheels are made with
# PYTHON (default python3), which must be of BASE's minor version. DOCKER=podman uses podman.
set -euo pipefail

[[ $# == 1 ]] || { echo "usage: $0 BASE" >&2; exit 64; }
tree=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"${PYTHON:-python3}" -P -m pip wheel --quiet --disable-pip-version-check --wheel-dir "$scratch/wheels" "$tree"
"${DOCKER:-docker}" build --quiet --file "$tree/docker/runner.Dockerfile" --build-arg "BASE=$1" \
    --tag pytest-etcdtls/runner "$scratch"

#!/usr/bin/env bash
# Builds static etcd servers of releases that published advisories are about, one for every module
# docker/affected/etcd-*, into a place of their own, so that no other test runs on them:
#   ${XDG_CACHE_HOME:-$HOME/.cache}/pytest-etcdtls/affected/VERSION/etcd
# What is there already is left alone.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/pytest-etcdtls/affected

build() { # DIRECTORY VERSION
    local scratch
    scratch=$(mktemp -d "$cache/building.XXXXXX")
    trap 'rm -rf "$scratch"' RETURN
    printf 'etcd: building %s with %s\n' "$2" "$(go version)"
    (cd "$1" && CGO_ENABLED=0 GOTOOLCHAIN=local GOWORK=off \
        go build -trimpath -ldflags='-s -w' -o "$scratch/etcd" go.etcd.io/etcd/server/v3) || return 1
    chmod 755 "$scratch"
    # A concurrent run may have been first.
    mv -T "$scratch" "$cache/$2" 2>/dev/null || [[ -x $cache/$2/etcd ]]
}

command -v go >/dev/null || { echo "etcd: there is no go on PATH to build affected releases with" >&2; exit 1; }
mkdir -p "$cache"
for directory in "$here"/affected/etcd-*/; do
    version=$(awk '/go.etcd.io\/etcd\/server\/v3 v/ { sub(/.*server\/v3 v/, ""); print $1; exit }' "$directory/go.mod")
    if [[ -x $cache/$version/etcd ]]; then
        printf 'etcd: %s is there already: %s\n' "$version" "$cache/$version"
    else
        build "${directory%/}" "$version"
    fi
done

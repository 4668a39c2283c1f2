#!/usr/bin/env bash
# Says in one line what the cluster of tests/kubernetes lacks here; else builds kubeadm, kubectl, kubelet, the control
# plane and the pause container with Go, once, into the user's cache:
#   ${XDG_CACHE_HOME:-$HOME/.cache}/pytest-etcdtls/kubernetes/KUBERNETES_VERSION/{bin,src}
# It takes ten minutes on two cores. What is there already is left alone.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
version=${KUBERNETES_VERSION:?make test WITH=kubernetes sets it}
cache=${XDG_CACHE_HOME:-$HOME/.cache}/pytest-etcdtls/kubernetes/$version

missing() { printf 'kubernetes: needs %s\n' "$*" >&2; exit 1; }

check_needs() {
    local program absent=()
    [[ $(uname -s) == Linux ]] || missing "Linux"
    ((EUID == 0)) || missing "root: nodes are namespaces with mounts and networks of their own"
    for program in containerd ctr runc conntrack ethtool socat iptables ip unshare nsenter busybox; do
        command -v "$program" >/dev/null || absent+=("$program")
    done
    [[ -x /usr/lib/cni/bridge ]] || absent+=(/usr/lib/cni/bridge)
    ((${#absent[@]} == 0)) || missing "${absent[*]}: apt-get install" \
        "containerd containernetworking-plugins conntrack ethtool socat iptables iproute2 util-linux busybox-static"
    compgen -G "${XDG_CACHE_HOME:-$HOME/.cache}/pytest-etcdtls/etcd/3.6.*/etcd" >/dev/null ||
        missing "a static etcd 3.6: make etcd"
}

# The modules that kubernetes is made of have no versions in its go.mod: it replaces them with directories beside it.
write_module() {
    local source module
    printf 'module kubernetes\ngo 1.24\n' >go.mod
    source=$(go mod download -json "k8s.io/kubernetes@v$version" | sed -n 's/.*"Dir": "\(.*\)".*/\1/p')
    while read -r module; do
        go mod edit -replace "$module=$module@v0.${version#1.}"
    done < <(grep -oE 'k8s\.io/[a-z0-9-]+ v0\.0\.0( |$)' "$source/go.mod" | cut -d ' ' -f 1 | sort -u)
    go mod edit -require "k8s.io/kubernetes@v$version"
}

build() { # NAME PACKAGE [FLAG...]
    [[ ! -x $cache/bin/$1 ]] || return 0
    command -v go >/dev/null || missing "Go, to build $1 of Kubernetes $version"
    printf 'kubernetes: building %s %s\n' "$1" "$version"
    go build "${@:3}" -o "$cache/bin/$1.new" "$2"
    mv "$cache/bin/$1.new" "$cache/bin/$1"
}

main() {
    local of=k8s.io/component-base/version minor=${version#1.} program
    check_needs
    mkdir -p "$cache/bin" "$cache/src"
    export CGO_ENABLED=0 GOFLAGS=-mod=mod GOWORK=off
    cd "$cache/src"
    [[ -e go.mod ]] || write_module
    for program in kubeadm kubectl kubelet kube-apiserver kube-controller-manager kube-scheduler; do
        build "$program" "k8s.io/kubernetes/cmd/$program" -ldflags="-s -w -X $of.gitVersion=v$version
            -X $of.gitMajor=1 -X $of.gitMinor=${minor%.*} -X $of.gitTreeState=clean -X $of.gitCommit=none"
    done
    build pause "$here/pause/main.go" -ldflags='-s -w'
}

main "$@"

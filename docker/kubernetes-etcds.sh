#!/usr/bin/env bash
# Prints which etcd each minor release of Kubernetes runs, from 1.28 on: a line "KUBERNETES ETCD" for its newest patch
# release that the Go module proxy lists.
# It is the etcd that kubeadm of that release takes by default: DefaultEtcdVersion in
# cmd/kubeadm/app/constants/constants.go. The archives (20 MB each) are read and not kept.
set -euo pipefail

module=k8s.io/kubernetes
first=28
ended=(v1.28.15 v1.29.15) # the last patch releases of minor releases that have ended and that proxies may not list

proxy=$(go env GOPROXY)
proxy=${proxy%%[,|]*}
case $proxy in
    http*) ;;
    *) echo "kubernetes: GOPROXY is $proxy: the archives are fetched from a proxy, set one" >&2; exit 1 ;;
esac
command -v unzip >/dev/null || { echo "kubernetes: install unzip, with which the archives are read" >&2; exit 1; }
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

listed=$(curl -sSf --max-time 60 "$proxy/$module/@v/list")
printf '%s\n' "${ended[@]}" "$listed" | sed -n 's/^v\(1\.[0-9]*\.[0-9]*\)$/\1/p' | sort -V |
    awk -F. -v first="$first" '$2 >= first { newest[$2] = $0 } END { for (minor in newest) print newest[minor] }' |
    sort -V >"$scratch/releases"
while read -r release; do
    curl -sSf --max-time 300 --output "$scratch/archive" "$proxy/$module/@v/v$release.zip"
    etcd=$(unzip -p "$scratch/archive" "$module@v$release/cmd/kubeadm/app/constants/constants.go" |
        sed -n 's/^\tDefaultEtcdVersion *= "\([0-9.]*\)-.*/\1/p')
    [[ -n $etcd ]] || { echo "kubernetes: kubeadm of $release names no etcd" >&2; exit 1; }
    printf '%s %s\n' "$release" "$etcd"
done <"$scratch/releases"

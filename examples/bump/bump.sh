#!/bin/sh
# Judges an etcd with the declaration etcd.yaml, and compares it with etcd.baseline, which the etcd in use has left.
#
#   bump.sh             the image of the declaration
#   bump.sh ETCD        another image, or a binary
#
# Needs Python 3.11 or newer, and the wheel of pytest-etcdtls in this directory, since no package index has it. The
# differences are at the top of etcd-tls/bump.md. Exit code: that of pytest-etcdtls; 0 if nothing is wrong or worse. To take the etcd into use: mv etcd-tls/bump.baseline etcd.baseline
set -eu
etcd=${1:-$(sed -n 's/^ *image: *//p' etcd.yaml)}
option=--etcd-image
[ ! -x "$etcd" ] || option=--etcd-binary
.etcd-tls/bin/python -P -c 'import pytest_etcdtls' 2>/dev/null || {
    python3 -P -m venv .etcd-tls
    .etcd-tls/bin/python -P -m pip install --quiet ./pytest_etcdtls-*.whl
}
set -- "$option=$etcd" --etcd-config=etcd.yaml --etcd-pki-dir=.
[ ! -f etcd.baseline ] || set -- "$@" --etcd-baseline=etcd.baseline
mkdir -p etcd-tls
rm -f etcd-tls/bump.*
for suffix in md html json sarif baseline; do
    set -- "$@" "--etcd-report=etcd-tls/bump.$suffix"
done
exec .etcd-tls/bin/pytest-etcdtls "$@" --junitxml=etcd-tls/bump.xml

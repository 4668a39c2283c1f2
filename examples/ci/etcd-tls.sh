#!/bin/sh
# Judges the etcds that are given, oldest first, and keeps what they do for the next time.
#
#   etcd-tls.sh /opt/etcd-3.5/etcd /opt/etcd-3.6/etcd
#
# Needs Python 3.11 or newer. Exit code: that of pytest; 0 is clean.
set -eu
[ $# -gt 0 ] || { echo "usage: $0 ETCD..." >&2; exit 64; }
for etcd; do
    shift
    set -- "$@" "--etcd-binary=$etcd"
done
[ -x .etcd-tls/bin/pytest ] || {
    python3 -m venv .etcd-tls
    .etcd-tls/bin/python -m pip install --quiet pytest-etcdtls==0.1.0
}
exec .etcd-tls/bin/pytest --pyargs pytest_etcdtls -q --etcd-report=etcd-tls.json --etcd-report=etcd-tls.html "$@"

"""HTTP answers that no etcd can be configured to give."""

from __future__ import annotations

from impostors.impostor import Answer

_VERSION = b'{"etcdserver":"3.6.16","etcdcluster":"3.6.0"}'

FAKES = {
    "api.version-answers": {"/version": Answer(status=503)},
    "api.version-body": {"/version": Answer(body=b'{"code":0}')},
    "api.no-redirect": {"/version": Answer(status=302, headers={"Location": "/login"})},
    "api.no-content-encoding": {"/version": Answer(body=_VERSION, headers={"Content-Encoding": "gzip"})},
    "api.grpc-range": {"/etcdserverpb.KV/Range": Answer(grpc_status=14)},
    "api.grpc-over-http2-only": {
        "http/1.1:/etcdserverpb.Maintenance/Status": Answer(headers={"Content-Type": "application/grpc"})
    },
}

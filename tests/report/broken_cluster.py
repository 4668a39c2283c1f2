"""A report of a cluster that is started here without pytest; as a program, the picture of the docs.

python -m report.broken_cluster docs/images/report.png
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from made import made_report
from report import browsing

from pytest_etcdtls.checks.results import Outcome
from pytest_etcdtls.etcd.cluster import start_cluster
from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.etcd.sources import cached_binaries, find_etcd
from pytest_etcdtls.pki.profile import SERVER, PKIPlan
from pytest_etcdtls.report import write_document
from pytest_etcdtls.report.model import Report
from pytest_etcdtls.run.judge import run_checks
from pytest_etcdtls.run.observer import Observer
from pytest_etcdtls.target import Target


def judged(target: Target, *patterns: str) -> Report:
    """Judge a target, by default without experiments, and return the report."""
    observer = Observer(target)
    results = run_checks(observer, patterns or ["!lifecycle"])
    failed = any(result.outcome is Outcome.VIOLATES for result in results)
    return made_report(*results, started_at=datetime.now(UTC), seen=(observer.recording,), status=int(failed))


def main(picture: Path) -> None:
    """Take a picture of the report of a broken cluster."""
    server = replace(SERVER, valid_for=timedelta(days=10))
    config = ClusterConfig(
        expects_health=False, client_cert_auth=False, trusted_ca_file=None, pki=PKIPlan(server=server)
    )
    _, binaries = cached_binaries()
    with tempfile.TemporaryDirectory() as directory:
        page = Path(directory) / "report.html"
        with start_cluster(config, find_etcd("process", binary=binaries[0])) as cluster:
            write_document(judged(cluster.target()), page)
        picture.parent.mkdir(parents=True, exist_ok=True)
        browsing.browse("--picture", page, picture.absolute(), "1190")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

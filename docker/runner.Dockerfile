# Judges an etcd from a node without Python: pytest-etcdtls in a virtual environment, nothing to write to.
# It writes nothing, so it has all compiled files: Python's, and those of the modules that pytest rewrites at a start.
# Built by build-runner.sh; the context is a directory of wheels, so that building needs no network.
ARG BASE
FROM ${BASE} AS build
COPY wheels /wheels
RUN python3 -m venv /opt/etcd-tls \
    && /opt/etcd-tls/bin/python -m pip install --quiet --no-cache-dir --disable-pip-version-check --no-index \
        --find-links=/wheels pytest-etcdtls \
    && /opt/etcd-tls/bin/python -m pip uninstall --quiet --yes pip \
    && python3 -m compileall -q /opt/etcd-tls \
    && /opt/etcd-tls/bin/pytest-etcdtls --list-checks > /dev/null \
    && mkdir -m 555 /opt/etcd-tls/empty

FROM ${BASE}
LABEL org.opencontainers.image.title="pytest-etcdtls" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/etcd-tls /opt/etcd-tls
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONSAFEPATH=1
# No volume: what others write there is no code, and a report has an absolute path, below a volume.
WORKDIR /opt/etcd-tls/empty
USER 65532:65532
ENTRYPOINT ["/opt/etcd-tls/bin/pytest-etcdtls"]

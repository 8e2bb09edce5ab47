# Images of Crucible's processes. `deploy/build` makes the wheels this needs and builds every target;
# no step below asks a network.
#
#   BASE  any image with Python of the version the wheels are for, and the venv module
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS wheels
# No process runs in this stage or its children: they only make files.
# hadolint ignore=DL3002
USER 0
COPY dist/wheels /wheels
# The base may have no pip: a wheel of pip runs from the archive that it is.
SHELL ["/bin/sh", "-eu", "-c"]
RUN python3 -m venv --without-pip /opt/crucible; \
    set -- /wheels/pip-*.whl; python3 "$1/pip" --python /opt/crucible/bin/python install --no-cache-dir \
        --no-index --find-links /wheels --disable-pip-version-check 'crucible-sandbox[postgres]'

FROM wheels AS wheels-stock
RUN set -- /wheels/pip-*.whl; python3 "$1/pip" --python /opt/crucible/bin/python install --no-cache-dir \
    --no-index --find-links /wheels --disable-pip-version-check 'crucible-sandbox[flower]'

FROM wheels AS wheels-server
RUN set -- /wheels/pip-*.whl; python3 "$1/pip" --python /opt/crucible/bin/python install --no-cache-dir \
    --no-index --find-links /wheels --disable-pip-version-check 'crucible-sandbox[embedded]'; \
    ln -s "$(/opt/crucible/bin/python -c 'from crucible.embedded.server import find_binary; print(find_binary())')" \
        /opt/crucible/bin/valkey-server

# What every process has in common: a user without rights, and nothing it may write but /data.
FROM ${BASE} AS process
USER 0
RUN mkdir -p /data && chown 10001:10001 /data
ENV PATH=/opt/crucible/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/data \
    CRUCIBLE_DATA_DIR=/data \
    CRUCIBLE_LOG_FORMAT=json
WORKDIR /data
USER 10001:10001
ENTRYPOINT ["crucible"]

FROM process AS api
COPY --from=wheels /opt/crucible /opt/crucible
ENV CRUCIBLE_HOST=0.0.0.0
EXPOSE 8000
HEALTHCHECK --interval=20s --timeout=20s --start-period=60s CMD ["crucible", "doctor", "--live", "api"]
CMD ["api"]

FROM process AS worker
COPY --from=wheels /opt/crucible /opt/crucible
HEALTHCHECK --interval=20s --timeout=20s --start-period=60s CMD ["crucible", "doctor", "--live", "worker"]
CMD ["worker"]

# The only one that is given the engine's socket.
FROM process AS executor
COPY --from=wheels /opt/crucible /opt/crucible
ENV CRUCIBLE_HOST=0.0.0.0
EXPOSE 8003
HEALTHCHECK --interval=20s --timeout=20s --start-period=60s CMD ["crucible", "doctor", "--live", "executor"]
CMD ["executor"]

FROM process AS historian
COPY --from=wheels /opt/crucible /opt/crucible
HEALTHCHECK --interval=20s --timeout=20s --start-period=60s CMD ["crucible", "doctor", "--live", "historian"]
CMD ["historian"]

# A stock Celery worker, beat and Flower.
FROM process AS stock
COPY --from=wheels-stock /opt/crucible /opt/crucible
ENTRYPOINT ["celery", "-A", "crucible.celery_app"]
CMD ["worker", "-Q", "high_priority,evaluation,batch,maintenance,webhooks"]

# A server for machines that reach no registry; elsewhere compose.yaml takes the official image.
FROM process AS server
COPY --from=wheels-server /opt/crucible /opt/crucible
ENTRYPOINT []
CMD ["valkey-server", "--dir", "/data", "--appendonly", "yes", "--maxmemory-policy", "noeviction"]

# The same for what has no wheel: Debian's, as deploy/debian-servers laid it out.
FROM process AS postgres
USER 0
COPY dist/servers/postgres /
COPY deploy/postgres-entrypoint /usr/local/bin/postgres-entrypoint
RUN echo 'postgres:x:10001:10001::/var/lib/postgresql:/bin/sh' >>/etc/passwd; \
    mkdir -p /var/lib/postgresql/data; chown -R 10001:10001 /var/lib/postgresql
ENV PATH=/usr/lib/postgresql/bin:/usr/bin:/bin \
    LD_LIBRARY_PATH=/usr/lib/libraries \
    PGDATA=/var/lib/postgresql/data/cluster \
    PGHOST=/tmp
USER 10001:10001
ENTRYPOINT ["/usr/local/bin/postgres-entrypoint"]
CMD []

FROM process AS prometheus
USER 0
COPY dist/servers/prometheus /
RUN mkdir -p /prometheus; chown 10001:10001 /prometheus
USER 10001:10001
ENTRYPOINT ["prometheus"]
CMD ["--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/prometheus"]

FROM process AS alertmanager
COPY dist/servers/alertmanager /
ENTRYPOINT ["prometheus-alertmanager"]
CMD ["--config.file=/etc/alertmanager/alertmanager.yml", "--storage.path=/tmp"]

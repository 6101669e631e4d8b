# The daemon as an image: dependencies by hash from the lock, kernels compiled, no root, no secrets.
#
#   docker build --build-arg COMMIT="$(git rev-parse HEAD)" --tag mm-daemon .
#   docker run --init --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges \
#     --stop-timeout 60 --volume mm-daemon:/var/lib/mm-daemon --publish 127.0.0.1:8700:8700 \
#     --volume "$PWD/config.toml:/etc/mm-daemon/config.toml:ro" --name mm mm-daemon
#   docker exec mm mm-daemon kill --reason "…"
#
# MM_CONFIG names that file to every command, so `run` without it refuses; with --env MM_CONFIG= it
# shows the embedded exchange.
#
# Kernels are compiled for the processor of the build; another one compiles again at each start.

# Give the base by digest for a build that can be repeated.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
# Both caches below are checked by modification time; image layers keep whole seconds only.
ARG SOURCE_DATE_EPOCH=1767225600
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 NUMBA_CACHE_DIR=/opt/kernels
RUN python -m venv /opt/venv
WORKDIR /opt/mm-daemon
COPY requirements.lock ./
RUN /opt/venv/bin/python -m pip install --no-compile --require-hashes --only-binary :all: \
      --requirement requirements.lock
COPY pyproject.toml README.md config.example.toml ./
COPY models ./models
COPY mm_daemon ./mm_daemon
# Editable, so that package, lock and models lie beside each other as in a checkout: sessions then
# record the hash of the lock they ran with.
RUN /opt/venv/bin/python -m pip install --no-compile --no-deps --no-build-isolation --editable . \
    && find /opt -name '*.py' -exec touch --date="@${SOURCE_DATE_EPOCH}" {} + \
    && /opt/venv/bin/python -m compileall -q --invalidation-mode unchecked-hash \
      /opt/venv/lib /opt/mm-daemon/mm_daemon \
    && /opt/venv/bin/python -m mm_daemon.warm

FROM ${PYTHON_IMAGE}
ARG COMMIT=""
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="mm-daemon" \
      org.opencontainers.image.description="Market-making daemon for crypto options" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${COMMIT}"
RUN groupadd --gid 10001 mm-daemon \
    && useradd --uid 10001 --gid 10001 --no-log-init --create-home \
      --home-dir /var/lib/mm-daemon --shell /usr/sbin/nologin mm-daemon \
    && chmod 0700 /var/lib/mm-daemon
COPY --from=build /opt /opt
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    NUMBA_CACHE_DIR=/opt/kernels \
    MM_CONFIG=/etc/mm-daemon/config.toml \
    MM_COMMIT=${COMMIT} \
    MM_HEALTH_URL=http://127.0.0.1:9464/healthz
USER 10001:10001
WORKDIR /var/lib/mm-daemon
VOLUME /var/lib/mm-daemon
EXPOSE 8700 9464
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=90s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen(os.environ['MM_HEALTH_URL'], timeout=2)"]
ENTRYPOINT ["mm-daemon"]
CMD ["run"]

# The image of the webhook and of the command line: `make image`.
#
# It holds Python, the virtualenv, the libraries both load, and nothing else: no shell, no package
# manager, no pip. It needs no writable path; run it with a read-only root file system.
#
# The base gives the Python. Any Debian with Python 3.11 or later, its venv module and CA
# certificates will do. To pin it, give the digest that `docker buildx imagetools inspect IMAGE` shows:
#   docker build --build-arg BASE=docker.io/library/python:3.14-slim@sha256:… .
ARG BASE=docker.io/library/python:3.14-slim

FROM ${BASE} AS build
ENV UV_PYTHON=python3 \
    UV_PYTHON_DOWNLOADS=never \
    UV_PROJECT_ENVIRONMENT=/opt/gatekeeper-py \
    UV_LINK_MODE=copy \
    UV_NO_CACHE=1
# The same uv as in the Makefile, which also makes the lock.
COPY tools/uv-requirements.txt /uv/
RUN python3 -m venv /uv && /uv/bin/pip install --quiet --no-cache-dir --require-hashes -r /uv/uv-requirements.txt

WORKDIR /src
# Dependencies in a layer of their own: they change more seldom than the code.
COPY pyproject.toml uv.lock ./
RUN /uv/bin/uv sync --quiet --frozen --no-dev --no-install-project
COPY . .
# uv_cache.json has the time at which the wheel was built, which would make every build different.
RUN /uv/bin/uv build --quiet --wheel --out-dir /dist --build-constraints tools/build-constraints.txt --require-hashes \
    && /uv/bin/uv pip install --quiet --python /opt/gatekeeper-py/bin/python --no-deps /dist/*.whl \
    && cd "$(dirname /opt/gatekeeper-py/lib/python3*/site-packages/*.dist-info/uv_cache.json)" \
    && rm uv_cache.json && sed -i '/uv_cache\.json/d' RECORD && cd /src \
    && PYTHONHASHSEED=0 python3 tools/rootfs.py /opt/gatekeeper-py gatekeeper-py /rootfs

FROM scratch
COPY --from=build /rootfs /
ENV PATH=/opt/gatekeeper-py/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
# Numeric, so that a kubelet can see that it is not root (runAsNonRoot).
USER 65532:65532
# A library left behind shows here, not in a cluster.
RUN ["python", "-c", "import gatekeeper_py.cli.main, gatekeeper_py.webhook.app"]

EXPOSE 8443 8080
STOPSIGNAL SIGTERM
# For Docker and Podman; Kubernetes has probes. In the image there is nothing but Python to ask with.
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 \
    CMD ["python", "-c", "import http.client as h, os; c = h.HTTPConnection('127.0.0.1', int(os.environ.get('GATEKEEPER_PY_HEALTH_LISTEN', ':8080').rpartition(':')[2]), timeout=2); c.request('GET', '/livez'); raise SystemExit(c.getresponse().status != 200)"]

# Last, because they change with every commit.
ARG BASE
ARG VERSION=unreleased
ARG REVISION=unknown
LABEL org.opencontainers.image.title="gatekeeper-py (kube-image-gatekeeper)" \
      org.opencontainers.image.description="A Kubernetes admission webhook that lets a cluster run only images from approved registries." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="${BASE}"

# `args: [serve, --configmap, NAMESPACE/NAME]` in a Pod, or any other command of gatekeeper-py.
ENTRYPOINT ["gatekeeper-py"]
CMD ["serve"]

# The service, and every other command: docker run --rm IMAGE sightline prepare ... (docs/training-data.md).
# Another build of PyTorch: docker build --build-arg TORCH_INDEX=<the wheel index that pytorch.org names> . With its hash:
# --build-arg TORCH='torch==2.13.0 --hash=sha256:...'. All other packages are those of requirements.lock, held to their hashes.
FROM python:3.11-slim-bookworm AS build
ARG TORCH=torch==2.13.0
ARG TORCH_INDEX=
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/sightline
WORKDIR /source
COPY requirements.lock ./
RUN /opt/sightline/bin/pip install --require-hashes --no-deps -r requirements.lock
# What it requires in Python is locked above; builds for NVIDIA bring libraries of their own, at versions that it fixes.
RUN echo "$TORCH" > torch.txt && /opt/sightline/bin/pip install -r torch.txt ${TORCH_INDEX:+--index-url "$TORCH_INDEX"}
COPY pyproject.toml README.md LICENSE ./
COPY model model
COPY nlp nlp
COPY plugin plugin
# Other extras than this are not locked.
ARG EXTRAS=buckets
RUN /opt/sightline/bin/pip install --no-build-isolation ".${EXTRAS:+[$EXTRAS]}" && /opt/sightline/bin/pip check

# OHIF's built files, exactly as the lock file says.
FROM node:20-bookworm-slim AS viewer
WORKDIR /viewer
COPY plugin/stack/npm/package.json plugin/stack/npm/package-lock.json plugin/stack/npm/.npmrc ./
RUN npm ci --omit=dev --ignore-scripts --no-audit --no-fund

FROM python:3.11-slim-bookworm
RUN useradd --system --uid 10001 --home-dir /var/lib/sightline sightline \
    && install -d -o sightline -g sightline /var/lib/sightline
COPY --from=build /opt/sightline /opt/sightline
COPY --from=viewer /viewer/node_modules/@ohif/app/dist /opt/ohif
ENV PATH=/opt/sightline/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    SIGHTLINE_HOST=0.0.0.0 SIGHTLINE_PORT=8042 SIGHTLINE_DATA_DIR=/var/lib/sightline
USER sightline
WORKDIR /var/lib/sightline
VOLUME /var/lib/sightline
EXPOSE 8042
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import os, urllib.request as u; u.urlopen('http://127.0.0.1:' + os.environ['SIGHTLINE_PORT'] + '/health/live', timeout=4)"]
CMD ["sightline", "serve"]

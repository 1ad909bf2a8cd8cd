# dlbench in a container, as a user without rights.
#
#   docker build -t dlbench .
#   docker build -t dlbench:cuda --build-arg EXTRAS=cuda .
#   docker run --rm -v dlbench-runs:/work/runs -v dlbench-cache:/cache dlbench compare-archs
#   docker run --rm --gpus all -v dlbench-runs:/work/runs dlbench:cuda compare-archs --device gpu
ARG PYTHON=3.12
ARG BASE=python:${PYTHON}-slim

FROM ${BASE} AS build
ARG PYTHON
COPY pyproject.toml README.md LICENSE /source/
COPY dlbench /source/dlbench
COPY constraints /source/constraints
# Extras to install: cuda, mlflow, wandb; several with commas.
ARG EXTRAS=
RUN python3 -m venv /opt/dlbench \
    && /opt/dlbench/bin/pip install --no-cache-dir --constraint /source/constraints/python-${PYTHON}.txt \
        "/source${EXTRAS:+[$EXTRAS]}"

FROM ${BASE}
# A C compiler builds the kernels that make training on a CPU faster, once, into the cache.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 dlbench \
    && mkdir -p /work/runs /cache \
    && chown -R dlbench /work /cache
COPY --from=build /opt/dlbench /opt/dlbench
ENV PATH=/opt/dlbench/bin:$PATH DLBENCH_CACHE_DIR=/cache
USER dlbench
WORKDIR /work
VOLUME ["/cache", "/work/runs"]
ENTRYPOINT ["dlbench"]
CMD ["--help"]

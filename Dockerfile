# SPDX-License-Identifier: GPL-3.0-or-later
# Four images, one file: cpu (all services, and embedding on a CPU), gpu (embedding with CUDA), labeling, controller.
#   docker build --target labeling -t gandt/labeling:0.1.0 .          (make images builds all)
# Versions and hashes come from requirements.lock. A release names the base by digest: --build-arg BASE=...@sha256:...

ARG BASE=docker.io/library/python:3.11-slim-bookworm

# ---- what every build needs ----
FROM ${BASE} AS tools
ENV UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy VIRTUAL_ENV=/opt/gandt PATH=/opt/gandt/bin:$PATH
WORKDIR /build
RUN python3 -m venv /opt/gandt && python3 -m venv /opt/uv && /opt/uv/bin/pip install --no-cache-dir uv==0.13.9
COPY pyproject.toml requirements.lock README.md LICENSE ./

FROM tools AS build-labeling
RUN --mount=type=cache,target=/root/.cache/uv \
    /opt/uv/bin/uv pip install -r pyproject.toml --extra labeling -c requirements.lock
COPY src src
COPY services services
COPY lambdas lambdas
RUN /opt/uv/bin/uv pip install --no-deps --build-constraint requirements.lock .

FROM tools AS build-controller
RUN --mount=type=cache,target=/root/.cache/uv \
    /opt/uv/bin/uv pip install -r pyproject.toml --extra jobcontroller -c requirements.lock
COPY src src
COPY services services
COPY lambdas lambdas
RUN /opt/uv/bin/uv pip install --no-deps --build-constraint requirements.lock .

# Stock torch brings 4 GB of CUDA libraries that it does not start without. TORCH_INDEX names an index of wheels for CPUs;
# empty leaves torch out: exported models run in OpenVINO, the built-in hog embedder does not.
FROM tools AS build-cpu
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
# What torch gets here is another build of the locked version, with another hash: it leaves the constraints.
RUN --mount=type=cache,target=/root/.cache/uv \
    awk '/^[a-z]/ { keep = !/^(torch|torchvision|triton|nvidia-|cuda-)/ } keep' requirements.lock > cpu.lock && \
    version() { sed -n "s/^$1==\([0-9.]*\).*/\1/p" requirements.lock; } && \
    if [ -n "${TORCH_INDEX}" ]; then \
      /opt/uv/bin/uv pip install --index-url "${TORCH_INDEX}" \
        "torch==$(version torch)" "torchvision==$(version torchvision)" ; \
    fi && \
    /opt/uv/bin/uv pip install -r pyproject.toml --extra openvino --extra vectorsearch --extra selection \
      --extra aggregation --extra jobcontroller --extra labeling scikit-learn safetensors -c cpu.lock
COPY src src
COPY services services
COPY lambdas lambdas
RUN /opt/uv/bin/uv pip install --no-deps --build-constraint requirements.lock .

FROM tools AS build-gpu
RUN --mount=type=cache,target=/root/.cache/uv \
    /opt/uv/bin/uv pip install -r pyproject.toml --extra embedding -c requirements.lock
COPY src src
COPY services services
COPY lambdas lambdas
RUN /opt/uv/bin/uv pip install --no-deps --build-constraint requirements.lock .

# ---- what runs: no compiler, nobody's root, nothing written outside the volumes ----
FROM ${BASE} AS runtime
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="gandt" \
      org.opencontainers.image.description="More training data from fewer labels" \
      org.opencontainers.image.licenses="GPL-3.0-or-later" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
ENV PATH=/opt/gandt/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 HOME=/tmp
WORKDIR /var/lib/gandt
RUN chown 65532:65532 /var/lib/gandt
USER 65532:65532
EXPOSE 8080 50051 50052 50053 50054 50055

FROM runtime AS labeling
COPY --from=build-labeling /opt/gandt /opt/gandt
ENTRYPOINT ["python", "-m", "gandt_labeling"]

FROM runtime AS controller
COPY --from=build-controller /opt/gandt /opt/gandt
ENTRYPOINT ["python", "-m", "gandt_jobcontroller"]

FROM runtime AS gpu
COPY --from=build-gpu /opt/gandt /opt/gandt
ENTRYPOINT ["python", "-m", "gandt_embedding"]

FROM runtime AS cpu
COPY --from=build-cpu /opt/gandt /opt/gandt
ENTRYPOINT ["python", "-m", "gandt_standalone"]

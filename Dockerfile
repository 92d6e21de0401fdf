# agebench in a container.
#   docker build -t agebench .
#   docker build -t agebench:gpu --build-arg EXTRA=gpu .     (needs the NVIDIA container toolkit to run)
#   docker run --rm --user "$(id -u):$(id -g)" -v "$PWD:/work" agebench \
#       compare constant --dataset csv --root my.csv --out results
# --user: the results are written by, and belong to, whoever typed it.
FROM python:3.11-slim AS wheel
WORKDIR /source
COPY . .
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.11-slim
# "gpu" brings NVIDIA's libraries for ONNX Runtime, "train" PyTorch; empty: the CPU alone.
ARG EXTRA=""
# OpenCV links libGL and glib.  Their versions are those of the image's own release.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgl1 libglib2.0-0 \
    && rm -rf /var/lib/apt/lists/*
COPY constraints.txt /tmp/constraints.txt
RUN --mount=type=bind,from=wheel,source=/wheels,target=/wheels \
    pip install --no-cache-dir --constraint /tmp/constraints.txt \
        "agebench${EXTRA:+[$EXTRA]} @ file://$(echo /wheels/agebench-*.whl)" \
    && agebench --version
# Fetched model files and kept detections; give it a volume to keep them.
ENV AGEBENCH_CACHE=/cache
RUN useradd --create-home --uid 1000 agebench \
    && mkdir /cache /work && chown agebench /work && chmod 1777 /cache
USER 1000
WORKDIR /work
VOLUME /cache
ENTRYPOINT ["agebench"]
CMD ["--help"]

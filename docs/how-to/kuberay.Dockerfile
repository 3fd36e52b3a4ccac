# The image of the head and the workers. Build it in the project's folder:
#   docker build -f docs/how-to/kuberay.Dockerfile -t REPLACE .
# If the driver of the nodes is older than 580, add --build-arg TORCH_BACKEND=cu126
FROM python:3.11-slim-bookworm
RUN apt-get update -q && apt-get install -y -q --no-install-recommends procps wget && rm -rf /var/lib/apt/lists/*
WORKDIR /raygrid
COPY constraints.txt pyproject.toml README.md LICENSE ./
COPY raygrid raygrid
COPY experiments experiments
COPY analysis analysis
ARG TORCH_BACKEND=
# The packages go into the system's Python, which is also on the PATH of login shells: the operator can be configured to
# use them. A build of PyTorch for another CUDA version requires its own CUDA packages, so their pins are left out.
RUN pip install -q --no-cache-dir -c constraints.txt uv
RUN if [ "$TORCH_BACKEND" ]; then grep -Ev '^(cuda|nvidia)-' constraints.txt; else cat constraints.txt; fi > /tmp/pins.txt
RUN uv pip install -q --system --no-cache ${TORCH_BACKEND:+--torch-backend=$TORCH_BACKEND} -c /tmp/pins.txt \
    -e ".[dicom]" "ray[default]"
# The container runtime adds the driver to the container; `utility` adds nvidia-smi.
ENV NVIDIA_DRIVER_CAPABILITIES=compute,utility
RUN useradd --uid 1000 --create-home ray
USER ray

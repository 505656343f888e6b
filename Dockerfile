# docker build -t stgraph . && docker run --rm -v "$PWD/outputs:/stgraph/outputs" stgraph compress --help
FROM python:3.11-slim-bookworm AS base
RUN apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev make && rm -rf /var/lib/apt/lists/*

FROM base
WORKDIR /stgraph
COPY . .
RUN make demo
ENTRYPOINT [".venv/bin/stgraph"]
CMD ["doctor"]

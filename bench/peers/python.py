"""Gateways on Python: FastAPI as its documentation has it, and a proxy by hand."""

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench import machine
from bench.peers.port import LIMITS, ORIGIN, Running, Site
from local.ports import free_ports

_ROOT: Final = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Python:
    """`sources/MODULE.py`, as one process or several that share a port."""

    name: str
    module: str
    workers: int = 1
    client: str = ""
    decides: bool = True
    window: str = "two slots"

    @contextmanager
    def start(self, site: Site) -> Iterator[Running]:
        python = site.cache.python()
        (port,) = free_ports(1)
        with ExitStack() as stack:
            url, redis_pid = stack.enter_context(site.valkey())
            environ = {
                **site.environ,
                "PYTHONPATH": str(_ROOT),
                "PORT": str(port),
                "UPSTREAM_PORT": str(site.upstream_port),
                "REDIS_URL": url,
                "SECRET_FILE": str(site.secret_file),
                "LIMITS": json.dumps(LIMITS),
                "ORIGIN": ORIGIN,
                "CLIENT": self.client,
            }
            argv = (python, "-m", f"bench.peers.sources.{self.module}")
            programs = [
                stack.enter_context(site.run(self.name, argv, environ))
                for _ in range(self.workers)
            ]
            for program in programs:
                program.wait_until(
                    lambda: machine.listeners(port) == self.workers, self.name
                )
            pids = [program.pid for program in programs]
            yield Running(port, {"python": pids, "redis": [redis_pid]}, url)

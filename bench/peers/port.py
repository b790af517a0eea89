"""What a gateway must be able to do to be measured."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

import redis

from bench import machine, programs
from bench.installed import Cache
from local import binaries, valkey
from local.ports import free_ports

#: Everybody allows this one origin.
ORIGIN: Final = "https://app.example"
#: Role -> requests, seconds. `load` is never denied; a guest is one without a token.
LIMITS: Final = {"user": (60, 60), "burst": (60, 1), "load": (1_000_000_000, 60)}


@dataclass(frozen=True, slots=True)
class Site:
    """Where gateways run: folders, the key, the upstream."""

    work: Path
    cache: Cache
    secret_file: Path
    upstream_port: int
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    @property
    def environ(self) -> Mapping[str, str]:
        return self.cache.environ

    def folder(self, name: str) -> Path:
        """A new one."""
        found = self.work / self._unused(name)
        found.mkdir(parents=True)
        return found

    def _unused(self, name: str) -> str:
        plain = "".join(c if c.isalnum() else "-" for c in name)
        return f"{next(self._numbers):03d}-{plain}"

    @contextmanager
    def run(
        self,
        name: str,
        argv: Sequence[str | Path],
        environ: Mapping[str, str] | None = None,
    ) -> Iterator[programs.Program]:
        log = self.work / f"{self._unused(name)}.log"
        found = self.environ if environ is None else environ
        with programs.running(argv, log, found) as program:
            yield program

    @contextmanager
    def valkey(self) -> Iterator[tuple[str, int]]:
        """A server set up as hubgate's own; gives its URL and process."""
        (port,) = free_ports(1)
        server = valkey.prepare(self.folder("valkey"), port)
        argv = (str(binaries.valkey()), *server.argv()[1:])
        with self.run("valkey", argv) as program:
            program.wait_for_port(port)
            yield server.url, program.pid


@dataclass(frozen=True, slots=True)
class Running:
    """A gateway that serves. `roots`: part -> its processes, less their children."""

    port: int
    roots: Mapping[str, Sequence[int]]
    redis_url: str | None = None
    database_url: str | None = None

    def pids(self) -> dict[str, set[int]]:
        """Part -> processes, the children too, but for those of another part.

        Parts that are the same processes are one part.
        """
        names: dict[tuple[int, ...], list[str]] = {}
        for part, roots in self.roots.items():
            names.setdefault(tuple(sorted(roots)), []).append(part)
        trees = {" + ".join(of): machine.tree(roots) for roots, of in names.items()}
        return {
            part: tree.difference(*(other for other in trees.values() if other < tree))
            for part, tree in trees.items()
        }

    def redis(self) -> "redis.Redis":
        """A client of the store that its blacklist is in.

        Raises:
            programs.Failed: it has none.
        """
        if self.redis_url is None:
            raise programs.Failed("it has no Redis")
        return redis.Redis.from_url(self.redis_url, socket_timeout=5.0)


class Gateway(Protocol):
    """One way to run one gateway."""

    @property
    def name(self) -> str: ...

    @property
    def decides(self) -> bool:
        """Whether it authenticates and limits; else it only passes on."""

    @property
    def window(self) -> str:
        """How it limits: sliding, two slots (an estimate), fixed, none."""

    def start(self, site: Site) -> AbstractContextManager[Running]:
        """Serve for as long as the block lasts.

        Raises:
            installed.NotInstalled: what it needs can't be had here.
            programs.Failed: it did not start.
        """

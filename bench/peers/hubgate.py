"""hubgate's full path: `hubgate up`, with everything on that it has."""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from bench.peers.port import LIMITS, ORIGIN, Running, Site

_PER: Final = {1: "second", 60: "minute"}
_UP: Final = "import sys; from local.cli import main; sys.argv[0] = 'hubgate'; main()"


@dataclass(frozen=True, slots=True)
class Hubgate:
    """The stack with a generated configuration. `settings`: HUBGATE_… variables."""

    name: str = "hubgate"
    settings: Mapping[str, str] = field(default_factory=dict)
    routes: int = 1
    pem_files: Sequence[Path] = ()
    decides: bool = True
    window: str = "sliding"

    @contextmanager
    def start(self, site: Site) -> Iterator[Running]:
        folder = site.folder(self.name)
        config = folder / "gateway.json"
        config.write_text(json.dumps(configuration(self.routes, site.upstream_port)))
        argv = (
            *(sys.executable, "-c", _UP, "up", "--json", "--port", "0"),
            *("--config", config, "--data-dir", folder / "data"),
        )
        with site.run(self.name, argv, self._environ(site)) as program:
            found: dict[str, Any] = {}

            def is_ready() -> bool:
                found.update(_ready_line(program.log))
                return bool(found)

            program.wait_until(is_ready, self.name, 120.0)
            roots = {part: pids for part, pids in found["pids"].items() if pids}
            yield Running(
                port=int(found["gateway"].rpartition(":")[2]),
                roots={**roots, "supervisor": [program.pid]},
                redis_url=found["redis_url"],
                database_url=found["database_url"],
            )

    def _environ(self, site: Site) -> dict[str, str]:
        keys = {"HUBGATE_JWT_SECRET_FILE": str(site.secret_file)}
        if self.pem_files:
            keys["HUBGATE_JWT_PEM_FILES"] = ",".join(map(str, self.pem_files))
        return {**site.environ, **keys, **self.settings}


def configuration(routes: int, upstream_port: int) -> dict[str, Any]:
    """One route, `/api/load`, or many: `/api/load0`, `/api/load1` and so on.

    And `/api/burst`, for the role `burst`.
    """
    names = ["load"] if routes == 1 else [f"load{n}" for n in range(routes)]
    limits: dict[str, Any] = {
        role: {"requests": limit, "per": _PER[seconds]}
        for role, (limit, seconds) in LIMITS.items()
    }
    # As a role's it would be a second counter of every caller, who may come to have
    # that role; the others count each once.
    burst = {"id": "burst", "prefix": "/api/burst", "rate_limit": limits.pop("burst")}
    common = {"service": "upstream", "cors": {"origins": [ORIGIN], "credentials": True}}
    return {
        "version": 1,
        "services": {"upstream": {"instances": [f"127.0.0.1:{upstream_port}"]}},
        "routes": [
            *({"id": name, "prefix": f"/api/{name}", **common} for name in names),
            {**burst, **common},
        ],
        "limits": {"roles": {**limits, "guest": {"requests": 10, "per": "minute"}}},
    }


def _ready_line(log: Path) -> dict[str, Any]:
    for line in log.read_text(errors="replace").splitlines():
        if '"event":"ready"' in line.replace('": "', '":"'):
            found: dict[str, Any] = json.loads(line)
            return found
    return {}

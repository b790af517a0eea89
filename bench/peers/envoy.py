"""Envoy that only passes on, and no gateway at all."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from bench.peers.port import Running, Site
from local import binaries
from local.ports import free_ports

_MANAGER: Final = (
    "type.googleapis.com/envoy.extensions.filters.network"
    ".http_connection_manager.v3.HttpConnectionManager"
)
_ROUTER: Final = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"


@dataclass(frozen=True, slots=True)
class Direct:
    """The upstream itself."""

    name: str = "direct"
    decides: bool = False
    window: str = "none"

    @contextmanager
    def start(self, site: Site) -> Iterator[Running]:
        yield Running(site.upstream_port, {})


@dataclass(frozen=True, slots=True)
class BareEnvoy:
    """One route, no filter but the router, no access log."""

    workers: int
    decides: bool = False
    window: str = "none"

    @property
    def name(self) -> str:
        return f"bare Envoy, {self.workers}"

    @contextmanager
    def start(self, site: Site) -> Iterator[Running]:
        (port,) = free_ports(1)
        config = site.folder(self.name) / "envoy.json"
        config.write_text(json.dumps(_bootstrap(port, site.upstream_port)))
        argv = (
            *(binaries.envoy(), "-c", config, "--concurrency", str(self.workers)),
            *("--use-dynamic-base-id", "--log-level", "warn"),
        )
        with site.run(self.name, argv) as program:
            program.wait_for_port(port)
            yield Running(port, {"envoy": [program.pid]})


def _bootstrap(port: int, upstream: int) -> dict[str, Any]:
    manager = {
        "@type": _MANAGER,
        "stat_prefix": "bare",
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [
                        {"match": {"prefix": "/"}, "route": {"cluster": "service"}}
                    ],
                }
            ]
        },
        "http_filters": [
            {"name": "router", "typed_config": {"@type": _ROUTER}},
        ],
    }
    listener = {
        "name": "gateway",
        "address": _address(port),
        "filter_chains": [
            {"filters": [{"name": "manager", "typed_config": manager}]},
        ],
    }
    cluster = {
        "name": "service",
        "connect_timeout": "1s",
        "load_assignment": {
            "cluster_name": "service",
            "endpoints": [
                {"lb_endpoints": [{"endpoint": {"address": _address(upstream)}}]}
            ],
        },
    }
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}

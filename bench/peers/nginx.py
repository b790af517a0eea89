"""nginx of Debian: the upstream of everybody, and with Lua a gateway."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import redis

from bench.installed import SOURCES, Cache
from bench.peers.port import LIMITS, ORIGIN, Running, Site
from bench.programs import Program, running
from local.ports import free_ports

_HEAD: Final = """\
daemon off;
user root;
pid {folder}/nginx.pid;
error_log stderr warn;
worker_processes {workers};
worker_rlimit_nofile 16384;
{modules}
events {{ worker_connections 8192; }}
http {{
  access_log off;
  keepalive_timeout 3600s;
  keepalive_requests 1000000000;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
"""
_UPSTREAM: Final = """\
  server {{
    listen 127.0.0.1:{port} backlog=8192;
    default_type application/json;
    location / {{ return 200 '{body}'; }}
    location ~ /echo$ {{ return 200 '{{"user":"$http_x_user_id"}}'; }}
  }}
}}
"""
#: What the upstream answers: about as much as a small JSON answer.
_BODY: Final = '{"ok":true,"items":[' + ",".join(str(n) for n in range(100)) + "]}"


@contextmanager
def upstream(cache: Cache, folder: Path) -> Iterator[tuple[int, Program]]:
    """A server of one worker that answers everything; gives its port."""
    (port,) = free_ports(1)
    folder.mkdir(parents=True)
    text = _HEAD.format(folder=folder, workers=1, modules="") + _UPSTREAM.format(
        port=port, body=_BODY
    )
    conf = folder / "nginx.conf"
    conf.write_text(text)
    argv = (cache.nginx(), "-p", folder, "-c", conf)
    with running(argv, folder / "log", cache.debian_environ()) as program:
        program.wait_for_port(port)
        yield port, program


@dataclass(frozen=True, slots=True)
class NginxLua:
    """`sources/gate.lua` in nginx: the kind of engine under Kong and APISIX."""

    workers: int
    decides: bool = True
    window: str = "two slots"

    @property
    def name(self) -> str:
        return f"nginx + Lua, {self.workers}"

    @contextmanager
    def start(self, site: Site) -> Iterator[Running]:
        debian = site.cache.debian()
        folder = site.folder(self.name)
        (port,) = free_ports(1)
        with site.valkey() as (url, redis_pid):
            conf = folder / "nginx.conf"
            conf.write_text(
                _HEAD.format(
                    folder=folder, workers=self.workers, modules=_modules(debian)
                )
                + (SOURCES / "gate.conf")
                .read_text()
                .replace("@PORT@", str(port))
                .replace("@UPSTREAM@", str(site.upstream_port))
                .replace("@REDIS_PORT@", str(urlsplit(url).port))
                .replace("@REDIS_PASSWORD@", str(urlsplit(url).password))
                .replace("@SHA@", _loaded(url))
                .replace("@SECRET@", str(site.secret_file))
                .replace("@SOURCES@", str(SOURCES))
                .replace("@DEBIAN@", str(debian))
                .replace("@ORIGIN@", ORIGIN)
                .replace("@LIMITS@", _lua_limits())
            )
            argv = (site.cache.nginx(), "-p", folder, "-c", conf)
            with site.run(self.name, argv, site.cache.debian_environ()) as program:
                program.wait_for_port(port)
                roots = {"nginx": [program.pid], "redis": [redis_pid]}
                yield Running(port, roots, url)


def _loaded(url: str) -> str:
    """The name under which Redis knows the script."""
    with redis.Redis.from_url(url) as client:
        return str(client.script_load((SOURCES / "window.lua").read_text()))


def _modules(debian: Path) -> str:
    names = ("ndk_http_module.so", "ngx_http_lua_module.so")
    return "\n".join(
        f"load_module {debian}/usr/lib/nginx/modules/{name};" for name in names
    )


def _lua_limits() -> str:
    entries = (
        f"{role}={{{limit},{seconds * 1000}}}"
        for role, (limit, seconds) in LIMITS.items()
    )
    return "{" + ",".join(entries) + "}"

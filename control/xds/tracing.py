"""`traceparent` towards upstreams (control/xds/trace.lua)."""

from importlib.resources import files

from envoy_data_plane.envoy.config.core.v3 import DataSource
from envoy_data_plane.envoy.extensions.filters.http.lua.v3 import Lua
from envoy_data_plane.google.protobuf import Any

from control.xds import wire

FILTER = "envoy.filters.http.lua"


def lua() -> Any:
    script = files("control.xds").joinpath("trace.lua").read_text()
    return wire.pack(Lua(default_source_code=DataSource(inline_string=script)))

"""`traceparent` towards upstreams (control/xds/trace.lua)."""

from envoy_data_plane.google.protobuf import Any

from control.xds import wire

FILTER = "envoy.filters.http.lua"


def lua() -> Any:
    return wire.script("trace.lua")

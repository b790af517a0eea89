"""Measurements, each with a command.

    python -m bench [COMMAND] [options]

`gateways` (default): hubgate beside other gateways. `scales`: hubgate with more users,
routes, connections, other tokens. `envoy`: what each part of Envoy's configuration
costs. `transport`: what gRPC costs. `ledger`, `spool`, `chaos`, `queries`: the
ledger's.
What the first three need beside hubgate is installed into a cache once.
"""

import os
import runpy
import sys
from pathlib import Path
from typing import Final

from bench import envoy, gateways, scales
from bench.installed import Cache

_CACHED: Final = {
    "gateways": gateways.main,
    "scales": scales.main,
    "envoy": envoy.main,
}
_OWN_COMMAND: Final = ("transport", "ledger", "spool", "chaos", "queries")


def main() -> None:
    name, *options = sys.argv[1:] or ["gateways"]
    if name.startswith("--") and name != "--help":
        name, options = "gateways", sys.argv[1:]
    if name in _OWN_COMMAND:
        sys.argv[1:] = options
        runpy.run_module(f"bench.{name}", run_name="__main__", alter_sys=True)
    elif name in _CACHED:
        _CACHED[name](Cache(_cache_folder(), dict(os.environ)), options)
    else:
        raise SystemExit(__doc__)


def _cache_folder() -> Path:
    given = os.environ.get("XDG_CACHE_HOME")
    return (Path(given) if given else Path.home() / ".cache") / "hubgate-bench"


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        raise SystemExit(130) from None

"""Measurements, each with a command.

    python -m bench [gateways|scales|transport|ledger|spool|chaos|queries] [options]

`gateways` (default): hubgate beside other gateways. `scales`: hubgate with more users,
routes, connections, other tokens. `transport`: what gRPC costs. `ledger`, `spool`,
`chaos`, `queries`: the ledger's.
What the first two need beside hubgate is installed into a cache once.
"""

import os
import runpy
import sys
from pathlib import Path
from typing import Final

from bench import gateways, scales
from bench.installed import Cache

_OWN_COMMAND: Final = ("transport", "ledger", "spool", "chaos", "queries")


def main() -> None:
    name, *options = sys.argv[1:] or ["gateways"]
    if name.startswith("--") and name != "--help":
        name, options = "gateways", sys.argv[1:]
    if name in _OWN_COMMAND:
        sys.argv[1:] = options
        runpy.run_module(f"bench.{name}", run_name="__main__", alter_sys=True)
    elif name in {"gateways", "scales"}:
        cache = Cache(_cache_folder(), dict(os.environ))
        {"gateways": gateways.main, "scales": scales.main}[name](cache, options)
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

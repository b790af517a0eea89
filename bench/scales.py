"""What becomes of hubgate with more users, routes, connections, with other tokens.

    python -m bench scales [--only users,routes,tokens,algorithms,connections]
                           [--rounds N] [--seconds S] [--out DIR]

Every round of a scale runs its points in another order, each with a stack of its own.
What was measured is in DIR/scales.jsonl, the tables in DIR/scales.md.
"""

import argparse
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from bench import checks, machine, scale_report, tokens
from bench.installed import Cache, NotInstalled
from bench.load import Load
from bench.peers.envoy import BareEnvoy
from bench.peers.hubgate import Hubgate
from bench.peers.port import Gateway, Running
from bench.site import Loaded, Place, prepared

_HOT_USERS: Final = 100
_WARM_S: Final = 2
_RSA_BITS: Final = 2048
#: Asymmetric signatures cost up to a millisecond each to make.
_COLD_TOKENS: Final = 25_000


@dataclass(frozen=True, slots=True)
class Point:
    """One measurement. `x`: where it stands on its scale."""

    scale: str
    label: str
    x: float
    load: Load
    gateway: Gateway = field(default_factory=Hubgate)
    #: The path of the request that says it is ready.
    ready: str = "/api/load/x"
    #: Tokens that were not seen when it was warmed are what is measured.
    is_cold: bool = False


Points = Callable[[Place, int], Iterable[Point]]


def users(place: Place, seconds: int) -> Iterator[Point]:
    """As many callers, each as often as the others."""
    for count in (10, 100, 10_000, 100_000, 1_000_000):
        file = tokens.write(
            place.site.work / f"users-{count}", tokens.users(place.issuer, count)
        )
        load = Load(file, seconds=seconds)
        is_cold = count > _HOT_USERS
        yield Point("users", f"{count:,}", count, load, is_cold=is_cold)


def routes(place: Place, seconds: int) -> Iterator[Point]:
    """All of them asked for in turn."""
    for count in (10, 100, 500, 2_000):
        load = Load(place.tokens, "/api/load%d/x", count, seconds=seconds)
        gateway = Hubgate(routes=count)
        yield Point("routes", f"{count:,}", count, load, gateway, "/api/load0/x")


def sizes(place: Place, seconds: int) -> Iterator[Point]:
    """Tokens of a hundred users, with a claim that makes them long."""
    for padding in (0, 512, 2_048, 4_096):
        issuer = replace(place.issuer, padding=padding)
        file = tokens.write(
            place.site.work / f"padded-{padding}", tokens.users(issuer, _HOT_USERS)
        )
        size = len(issuer.of(0))
        yield Point("tokens", f"{size:,} bytes", size, Load(file, seconds=seconds))


def connections(place: Place, seconds: int) -> Iterator[Point]:
    """hubgate, and bare Envoy beside it."""
    for count in (16, 64, 256, 1_000):
        load = Load(place.tokens, connections=count, seconds=seconds)
        yield Point("connections", f"{count:,}", count, load)
        bare = f"{count:,}, bare Envoy"
        yield Point("connections", bare, count, load, BareEnvoy(1))


def algorithms(place: Place, seconds: int) -> Iterator[Point]:
    """Tokens seen before, and tokens that are all new."""
    keys: dict[str, Any] = {
        "RS256": rsa.generate_private_key(65_537, _RSA_BITS),
        "ES256": ec.generate_private_key(ec.SECP256R1()),
        "EdDSA": ed25519.Ed25519PrivateKey.generate(),
    }
    pem_files = [_public_pem(place.site.work, name, key) for name, key in keys.items()]
    gateway = Hubgate(pem_files=pem_files)
    issuers = {name: tokens.Issuer(key, name) for name, key in keys.items()}
    for name, issuer in {"HS256": place.issuer, **issuers}.items():
        for label, count in (("hot", _HOT_USERS), ("cold", _COLD_TOKENS)):
            file = tokens.write(
                place.site.work / f"{name}-{label}", tokens.users(issuer, count)
            )
            load = Load(file, seconds=seconds)
            is_cold = label == "cold"
            yield Point(
                "algorithms", f"{name}, {label}", 0, load, gateway, is_cold=is_cold
            )


_SCALES: Final[dict[str, Points]] = {
    "users": users,
    "routes": routes,
    "tokens": sizes,
    "connections": connections,
    "algorithms": algorithms,
}


def measure(place: Place, point: Point) -> dict[str, Any]:
    """One point of a scale."""
    with point.gateway.start(place.site) as running:
        token = place.issuer.of(0)
        checks.wait_until_ready(running, token, point.ready)
        warm = replace(point.load, tokens=place.tokens, seconds=_WARM_S)
        place.load(running, warm)
        before = _redis_memory(running)
        loaded = place.load(running, point.load)
        found = _per_user(running, before)
    return {**loaded.as_json(), **found, **_describe(point, loaded)}


def _describe(point: Point, loaded: Loaded) -> dict[str, Any]:
    return {
        "scale": point.scale,
        "label": point.label,
        "x": point.x,
        "gateway": point.gateway.name,
        "distinct": loaded.result.requests if point.is_cold else None,
    }


def _redis_memory(running: Running) -> tuple[int, int]:
    """Bytes used and keys there."""
    if running.redis_url is None:
        return 0, 0
    with running.redis() as store:
        return int(store.info("memory")["used_memory"]), int(store.dbsize())


def _per_user(running: Running, before: tuple[int, int]) -> dict[str, Any]:
    """Redis' bytes for each user who came new."""
    after = _redis_memory(running)
    keys = after[1] - before[1]
    return {"redis_bytes_per_key": (after[0] - before[0]) / keys} if keys > 0 else {}


def _public_pem(folder: Path, name: str, key: Any) -> Path:
    path = folder / f"{name}.pem"
    path.write_bytes(
        key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    return path


def run(place: Place, scale: str, rounds: int, seconds: int, file: Path) -> None:
    points = list(_SCALES[scale](place, seconds))
    skips = itertools.count()
    for number in range(rounds):
        turn = number % len(points)
        for point in (*points[turn:], *points[:turn]):
            # A stack knows no token of an earlier one; the file goes on all the same.
            skip = next(skips) * _COLD_TOKENS if point.is_cold else 0
            found = measure(place, replace(point, load=replace(point.load, skip=skip)))
            row = {"round": number, **found}
            with file.open("a") as out:
                out.write(json.dumps(row) + "\n")
            print(f"{number}  {scale_report.line(row)}", flush=True)


def main(cache: Cache, argv: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench scales")
    parser.add_argument("--only", default=",".join(_SCALES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=4, help="of each load")
    parser.add_argument("--out", type=Path, default=Path("bench/results"))
    parser.add_argument("--append", action="store_true", help="to earlier rounds")
    given = parser.parse_args(argv)
    given.out.mkdir(parents=True, exist_ok=True)
    file = given.out / "scales.jsonl"
    if not given.append:
        file.unlink(missing_ok=True)
    names = given.only.split(",")
    if unknown := set(names) - set(_SCALES):
        raise SystemExit(f"no scale {unknown}; there are: {', '.join(_SCALES)}")
    try:
        with prepared(cache) as place:
            for name in names:
                run(place, name, given.rounds, given.seconds, file)
            where = machine.describe(place.cores)
    except NotInstalled as error:
        raise SystemExit(f"the bench needs wrk and nginx: {error}") from error
    scale_report.write(given.out, where)
    print(f"\n{(given.out / 'scales.md').read_text()}")

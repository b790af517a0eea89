"""A ledger full of plausible rows, for measuring queries. Used by `bench.queries`.

Users are drawn unevenly (a few heavy ones, many light ones), hours follow the working
day, a third of the calls are AI calls. They come in the order of time, as in life. The
rows are the same for the same arguments. They are not sealed: seals say where a row
came from, and these came from nowhere.
"""

import asyncio
from datetime import date, datetime, timedelta
from typing import Final

import asyncpg

from usage_sink import rollups

USERS: Final = 10_000
_INDEXES: Final = {
    "usage_logs_user_id_created_at": "(user_id, created_at)",
    "usage_logs_service_created_at": "(service, created_at)",
    "usage_logs_model_created_at": "(model, created_at) WHERE model IS NOT NULL",
}

# `kind` decides service, model and route together, as in life.
_ROWS: Final = """
INSERT INTO usage_logs (id, user_id, service, model, tokens, credits, metadata,
    created_at, route, method, status, outcome, duration_ms, bytes_received, bytes_sent,
    input_tokens, output_tokens, cached_tokens, reasoning_tokens, usage_source, pricing,
    price_version, role, node, recorded_at, chain, seal)
SELECT gen_random_uuid(), 'user-' || floor($3 * power(d.user, 3))::int, k.service,
    k.model, coalesce(u.input + u.output, 0), coalesce(ceil(u.output * 0.01)::int, 0),
    jsonb_build_object(
        'request', jsonb_build_object('endpoint', '/api/' || k.route, 'method', 'POST',
            'parameters', '{}'::jsonb),
        'response', jsonb_build_object('statusCode', s.status, 'responseTime',
            s.duration, 'size', s.duration * 3),
        'billing', jsonb_build_object('ratePerToken', 0.01, 'totalCost',
            coalesce(u.output * 0.01, 0), 'currency', 'credits'),
        'system', jsonb_build_object('instanceId', 'node-1', 'region', 'local',
            'version', '0.1.0')),
    t.at, k.route, 'POST', s.status, CASE WHEN s.status < 400 THEN 'ok'
        WHEN s.status < 500 THEN 'client_error' ELSE 'upstream_error' END,
    s.duration, 300, s.duration * 3, u.input, u.output, u.input / 4, u.output / 8,
    CASE WHEN k.model IS NULL THEN 'absent' ELSE 'provider' END,
    CASE WHEN k.model IS NULL THEN 'free' ELSE 'priced' END, 'v1', 'user', 'node-1',
    t.at, 0, 0
FROM generate_series(1, $2) AS n
CROSS JOIN LATERAL (SELECT n, random() AS user, random() AS kind, random() AS hour,
    random() AS second, random() AS error, random() AS size) AS d
CROSS JOIN LATERAL (SELECT * FROM bench_kinds
    WHERE number = floor(40 * power(d.kind, 2))::int) AS k
CROSS JOIN LATERAL (SELECT CASE WHEN d.error < 0.97 THEN 200 WHEN d.error < 0.985
    THEN 404 WHEN d.error < 0.995 THEN 429 ELSE 502 END AS status,
    (k.base * (0.3 + 3 * power(d.size, 6)))::int AS duration) AS s
CROSS JOIN LATERAL (SELECT CASE WHEN k.model IS NULL OR s.status <> 200 THEN NULL
    ELSE (200 + 3000 * d.size)::int END AS input, CASE WHEN k.model IS NULL
    OR s.status <> 200 THEN NULL ELSE (50 + 900 * d.size)::int END AS output) AS u
CROSS JOIN LATERAL (SELECT $1::timestamptz + make_interval(
    hours => floor(24 * (0.5 + (d.hour - 0.5) * (0.6 + 0.4 * abs(d.hour - 0.5))))::int,
    secs => floor(3600e6 * d.second) / 1e6) AS at) AS t
ORDER BY t.at
"""

_KINDS: Final = """
CREATE TEMPORARY TABLE bench_kinds AS
SELECT number,
    CASE WHEN number % 3 = 0 THEN (ARRAY['openai', 'claude', 'gemini', 'sora2'])
        [1 + number / 3 % 4] ELSE (ARRAY['core-service', 'auth-service'])
        [1 + number % 2] END AS service,
    CASE WHEN number % 3 = 0 THEN 'model-' || number END AS model,
    'route-' || number % 20 AS route,
    CASE WHEN number % 3 = 0 THEN 1500 ELSE 20 END AS base
FROM generate_series(0, 39) AS number
"""


async def generate(dsn: str, rows: int, last: date, days: int) -> None:
    """Fill a migrated, empty ledger with `rows` in the `days` that end with `last`."""
    connections = [await asyncpg.connect(dsn) for _ in range(2)]
    first = connections[0]
    for name in _INDEXES:
        await first.execute(f"DROP INDEX {name}")
    waiting = [last - timedelta(days=ago) for ago in range(days)]
    for day in waiting:
        await first.execute("SELECT usage_logs_make_partition($1)", day)
    per_day = rows // days
    await asyncio.gather(*(_fill(one, waiting, per_day) for one in connections))
    for name, columns in _INDEXES.items():
        await first.execute(f"CREATE INDEX {name} ON usage_logs {columns}")
    for rollup in rollups.ROLLUPS:
        await first.execute(
            f"INSERT INTO {rollup.name} ({', '.join(rollup.columns)}) "
            f"{rollups.calculated(rollup, 'usage_logs')}"
        )
    for one in connections:
        await one.execute("VACUUM (ANALYZE)")
        await one.close()


async def _fill(
    connection: asyncpg.Connection, waiting: list[date], per_day: int
) -> None:
    await connection.execute(_KINDS)
    while waiting:
        day = waiting.pop()
        await connection.execute("SELECT setseed($1)", day.toordinal() % 1000 / 1000)
        start = datetime.fromisoformat(f"{day}T00:00:00+00:00")
        await connection.execute(_ROWS, start, per_day, float(USERS))

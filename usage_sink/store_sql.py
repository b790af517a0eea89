"""What the ledger's store asks of PostgreSQL. SQL text only; `store_postgres` asks."""

from typing import Final

from runtime.contracts import (
    TABLE_USAGE_ADJUSTMENTS,
    TABLE_USAGE_ARCHIVES,
    TABLE_USAGE_LOGS,
    USAGE_DAY_IS_AWAY,
)
from usage_sink import rollups
from usage_sink.records import COLUMNS
from usage_sink.seals import SealKind, rows_digest
from usage_sink.tables import TABLE_QUARANTINE, TABLE_REPORT_IDS

SCRATCH: Final = "usage_scratch"
_WRITTEN: Final = (*COLUMNS, "chain", "seal")
_COLUMN_LIST: Final = ", ".join(_WRITTEN)
COPIED: Final = (*COLUMNS, "seal")

# One scratch table per session, emptied by each commit: making and dropping one for
# every batch would bloat the catalogue. It has no constraints: the ledger judges.
# Its `chain` is not known yet, its `seal` is the place of the row's day in the batch.
# The new rows of a large batch, which are read four times, stay in memory.
MAKE_SCRATCH: Final = f"""
SET LOCAL work_mem = '16MB';
CREATE TEMPORARY TABLE IF NOT EXISTS {SCRATCH} ON COMMIT DELETE ROWS
AS SELECT {_COLUMN_LIST} FROM {TABLE_USAGE_LOGS} WITH NO DATA
"""


def _insert_new(on_conflict: str) -> str:
    """Ordered, so that two sinks that write the same batch can't deadlock.

    What is summed and sealed is what was inserted, as the database holds it.
    """
    return f"""
WITH new AS (
    INSERT INTO {TABLE_USAGE_LOGS} ({_COLUMN_LIST})
    SELECT {", ".join(COLUMNS)}, $1::int, $2::bigint + seal FROM {SCRATCH} ORDER BY id
    {on_conflict} RETURNING *
), hourly AS ({rollups.add(rollups.HOURLY, "new")}
), totals AS ({rollups.add(rollups.TOTALS, "new")}
), minutes AS ({rollups.add(rollups.MINUTES, "new")}
)
SELECT seal, count(*) AS rows, {rows_digest(SealKind.USAGE)} AS digest, now() AS at
FROM new GROUP BY seal
"""


#: Of rows that are all new; else nothing is written. To look for each first costs
#: 1.2 us a row, for what comes after a crash or from a forgetful reporter only.
INSERT_ALL: Final = _insert_new("")
INSERT_NEW: Final = _insert_new("ON CONFLICT DO NOTHING")

# The first time that was reported for an id counts: a caller that asks the clock
# again for each attempt would otherwise be charged for each.
NOTE_REPORTED: Final = f"""
INSERT INTO {TABLE_REPORT_IDS} (id, created_at)
SELECT id, min(created_at) FROM {SCRATCH} WHERE usage_source = $1
GROUP BY id ORDER BY id ON CONFLICT DO NOTHING
"""
DROP_REPEATED: Final = f"""
DELETE FROM {SCRATCH} s USING {TABLE_REPORT_IDS} r
WHERE s.usage_source = $1 AND s.id = r.id AND s.created_at <> r.created_at
"""

_ADJUSTMENT_COLUMNS: Final = (
    *("id", "usage_id", "usage_created_at", "tokens", "input_tokens"),
    *("output_tokens", "cached_tokens", "reasoning_tokens", "credits"),
    *("price_version", "reason", "author", "metadata", "chain", "seal"),
)


def _adjust(source: str) -> str:
    return f"""
WITH new AS (
    INSERT INTO {TABLE_USAGE_ADJUSTMENTS} ({", ".join(_ADJUSTMENT_COLUMNS)})
    {source}
    ON CONFLICT DO NOTHING RETURNING *
), hourly AS ({rollups.add_adjusted(rollups.HOURLY, "new")}
), totals AS ({rollups.add_adjusted(rollups.TOTALS, "new")}
)
SELECT seal, count(*) AS rows, {rows_digest(SealKind.ADJUSTMENT)} AS digest, now() AS at
FROM new GROUP BY seal
"""


SETTLE_LATE: Final = _adjust(f"""
    SELECT DISTINCT ON (s.id) gen_random_uuid(), s.id, s.created_at,
        s.tokens - l.tokens, coalesce(s.input_tokens, 0), coalesce(s.output_tokens, 0),
        coalesce(s.cached_tokens, 0), coalesce(s.reasoning_tokens, 0),
        s.credits - l.credits, coalesce(s.price_version, ''), $1, 'usage_sink',
        jsonb_build_object(
            'status', s.status, 'outcome', s.outcome, 'durationMs', s.duration_ms,
            'service', s.service, 'model', s.model, 'usageSource', s.usage_source,
            'pricing', s.pricing, 'billing', s.metadata -> 'billing'),
        $2::int, $3::bigint
    FROM {SCRATCH} s JOIN {TABLE_USAGE_LOGS} l USING (id, created_at)
    WHERE l.outcome = 'unsettled' AND s.outcome <> 'unsettled'
    ORDER BY s.id
""")

ADJUST: Final = _adjust(
    "SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::timestamptz[], $4::int[], "
    "$5::int[], $6::int[], $7::int[], $8::int[], $9::int[], $10::text[], $11::text[], "
    "$12::text[], $13::jsonb[], $14::int[], $15::bigint[]) AS given ORDER BY 2"
)

ARCHIVED: Final = f"""
SELECT day FROM {TABLE_USAGE_ARCHIVES}
WHERE day = ANY ($1::date[]) AND {USAGE_DAY_IS_AWAY}
"""

QUARANTINE: Final = f"""
WITH new AS (
    INSERT INTO {TABLE_QUARANTINE} (digest, reason, attributes)
    SELECT * FROM unnest($1::bytea[], $2::text[], $3::jsonb[])
    ON CONFLICT DO NOTHING RETURNING 1
)
INSERT INTO usage_minutes AS t (node, minute, quarantined)
SELECT $4, date_bin('1 minute', now(), '2000-01-01+00'), count(*) FROM new
HAVING count(*) > 0
ON CONFLICT (node, minute) DO UPDATE SET
    quarantined = t.quarantined + excluded.quarantined
"""

MAKE_DAY: Final = "SELECT usage_logs_make_partition($1)"

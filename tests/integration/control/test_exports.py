"""Exports of a real ledger: live and archived days, snapshots, and their manifests."""

import asyncio
import csv
import hashlib
import io
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import asyncpg
import httpx
import pytest
from pyarrow import parquet

from control import export_rows_postgres as export_rows
from control.api import create_app
from control.audit import Action
from control.audit_postgres import PostgresAuditLog
from control.database import Database
from control.export import NAMES
from control.export_rows_postgres import LedgerRows
from control.exports import Exports
from control.pseudonyms_postgres import PostgresPseudonyms
from control.usage_postgres import PostgresUsageQueries
from runtime.clock import SystemClock
from runtime.contracts import Outcome
from tests.builders import a_token
from tests.builders_control import ADMIN_TOKEN, Parts, a_config
from tests.builders_ledger import START, a_ledger, a_record, a_store
from usage_sink.archive import Fate, archive
from usage_sink.records import UsageRecord
from usage_sink.store_postgres import PostgresUsageStore

pytestmark = pytest.mark.integration

EXPORT = "/api/usage/export"
ADMIN = {"authorization": f"Bearer {ADMIN_TOKEN}"}
#: Of a role of its own, so that all others see what they see by default.
HIDDEN = {"auditor": ["request.parameters", "response"]}
#: Closed days, so that they can be archived whenever the test runs.
DAY = START.replace(year=2025, hour=0, minute=0, second=0, microsecond=0)


def a_row(number: int, day: int = 0, **changes: Any) -> UsageRecord:
    at = DAY + timedelta(days=day, hours=number % 10, microseconds=number)
    user = f"u-{number % 3}"
    said = {"created_at": at, "user_id": user, "service": "openai", "status": 200}
    changes = {**said, "outcome": Outcome.OK, **changes}
    return a_record(UUID(int=number), **changes)


@dataclass
class Room:
    """A ledger of three days, ten rows each, and control's API over it."""

    api: httpx.AsyncClient
    store: PostgresUsageStore
    pool: asyncpg.Pool
    archives: Path
    audit: PostgresAuditLog

    async def archive(self, day: int) -> None:
        async with self.pool.acquire() as connection:
            days = [(DAY + timedelta(days=day)).date()]
            found = archive(cast(asyncpg.Connection, connection), self.archives, days)
            fates = [one.fate async for one in found]
        assert fates == [Fate.DROPPED]

    async def correct(self, number: int, credits_: int) -> None:
        """By the chain's next seal, as `reprice` does."""
        await self.pool.execute(
            """INSERT INTO usage_adjustments (id, usage_id, usage_created_at, tokens,
            input_tokens, output_tokens, cached_tokens, reasoning_tokens, credits,
            price_version, reason, author, metadata, chain, seal)
            SELECT gen_random_uuid(), id, created_at, 1, 0, 0, 0, 0, $2, 'v',
            gen_random_uuid()::text, 'who', '{}', 0, 0 FROM usage_logs WHERE id = $1""",
            *(UUID(int=number), credits_),
        )

    async def get(self, parameters: str = "", **headers: str) -> httpx.Response:
        answer = await self.api.get(f"{EXPORT}?{parameters}", headers=headers or ADMIN)
        assert answer.status_code == 200, answer.text
        return answer

    async def manifest(self, parameters: str, answer: httpx.Response) -> dict[str, Any]:
        snapshot = answer.headers["x-usage-snapshot"]
        url = f"{EXPORT}/manifest?{parameters}&snapshot={snapshot}"
        found: dict[str, Any] = (await self.api.get(url, headers=ADMIN)).json()
        return found


@pytest.fixture
async def room(migrated_url: str, tmp_path: Path) -> AsyncIterator[Room]:
    async with a_ledger(migrated_url) as pool:
        for day in range(3):
            date = (DAY + timedelta(days=day)).date()
            await pool.execute("SELECT usage_logs_make_partition($1)", date)
        store = a_store(pool)
        await store.write([a_row(n, n // 10) for n in range(30)])
        database = Database(migrated_url, 5.0, SystemClock())
        assert await database.connect(asyncio.Event())
        parts = Parts()
        config = a_config()
        rules = {"usage": {"hidden_metadata": HIDDEN}}
        changed = type(config).model_validate(config.document() | rules)
        await parts.changes.start(changed)
        usage, names = PostgresUsageQueries(database), PostgresPseudonyms(database)
        audit = PostgresAuditLog(database)
        deps = replace(
            parts.deps(),
            usage=usage,
            audit=audit,
            pseudonyms=names,
            exports=Exports(LedgerRows(database, usage, tmp_path), names),
        )
        transport = httpx.ASGITransport(create_app(deps))
        async with httpx.AsyncClient(transport=transport, base_url="http://c") as api:
            yield Room(api, store, pool, tmp_path, audit)
        await database.close()


def rows_of(answer: httpx.Response) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(answer.text, newline="")))


def numbers(answer: httpx.Response) -> list[int]:
    return [UUID(row["id"]).int for row in rows_of(answer)]


async def test_every_format_has_every_row_in_order(room: Room) -> None:
    as_csv = await room.get("format=csv")
    as_ndjson = await room.get("format=ndjson")
    as_json = await room.get("format=json")
    as_parquet = await room.get("format=parquet")
    lines = [json.loads(line) for line in as_ndjson.text.splitlines()]
    table = parquet.read_table(io.BytesIO(as_parquet.content))

    times = table["createdAt"].to_pylist()

    assert numbers(as_csv) == list(range(30))
    assert [UUID(one["id"]).int for one in lines] == list(range(30))
    assert as_json.json()["items"] == lines
    assert table.column_names == list(rows_of(as_csv)[0]) == list(NAMES)
    assert table["id"].to_pylist() == [one["id"] for one in lines]
    assert [json.loads(one) for one in table["metadata"].to_pylist()] == [
        one["metadata"] for one in lines
    ]
    assert datetime.fromisoformat(rows_of(as_csv)[1]["createdAt"]) == times[1]
    assert datetime.fromisoformat(lines[1]["createdAt"]) == times[1]
    assert times[0] == DAY


async def test_a_manifest_tells_of_the_very_file(room: Room) -> None:
    await room.correct(3, -5)
    for kind in ("csv", "json", "ndjson", "parquet"):
        parameters = f"format={kind}&service=openai"
        answer = await room.get(parameters)
        manifest = await room.manifest(parameters, answer)

        assert manifest["sha256"] == hashlib.sha256(answer.content).hexdigest()
        assert manifest["bytes"] == len(answer.content)
        assert (manifest["rows"], manifest["adjustedCredits"]) == (30, -5)
        assert manifest["parameters"] == {"format": kind, "service": "openai"}


async def test_a_snapshot_is_the_same_file_later_and_from_archives(room: Room) -> None:
    first = await room.get("format=ndjson")
    snapshot = first.headers["x-usage-snapshot"]
    await room.store.write([a_row(100, 0), a_row(101, 2)])
    for day in (0, 1):
        await room.archive(day)
    again = await room.get(f"format=ndjson&snapshot={snapshot}")
    now = await room.get("format=ndjson")

    assert again.content == first.content
    assert len(now.text.splitlines()) == 32


async def test_what_broke_off_goes_on_at_any_byte(room: Room) -> None:
    for kind in ("csv", "parquet"):
        whole = await room.get(f"format={kind}")
        snapshot = whole.headers["x-usage-snapshot"]
        for skip in (1, 500, len(whole.content) // 2, len(whole.content)):
            rest = await room.get(f"format={kind}&snapshot={snapshot}&skip={skip}")
            assert rest.content == whole.content[skip:]


async def test_small_pieces_are_the_same_file(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = await room.get()
    await room.archive(1)
    monkeypatch.setattr(export_rows, "CHUNK_ROWS", 3)
    monkeypatch.setattr(
        export_rows, "_ROWS", export_rows._ROWS.replace("LIMIT 5000", "LIMIT 3")
    )
    in_pieces = await room.get()

    assert in_pieces.content == whole.content


async def test_a_day_archived_meanwhile_is_neither_missed_nor_repeated(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    piece = LedgerRows._piece
    waiting = [1, 0]

    async def archived_before(self: LedgerRows, ask: Any) -> Any:
        if waiting:
            await room.archive(waiting.pop())
        return await piece(self, ask)

    monkeypatch.setattr(LedgerRows, "_piece", archived_before)
    answer = await room.get()

    assert numbers(answer) == list(range(30))
    assert waiting == []


async def test_filters_hold_in_archives_too(room: Room) -> None:
    live = await room.get("userId=u-1&startDate=2025-11-22T03:00:00Z&outcome=ok")
    for day in range(3):
        await room.archive(day)
    archived = await room.get("userId=u-1&startDate=2025-11-22T03:00:00Z&outcome=ok")
    none = await room.get("userId=u-1&status=5xx")

    assert numbers(live) == [n for n in range(30) if n % 3 == 1 and n >= 3]
    assert archived.content == live.content
    assert numbers(none) == []


async def test_totals_of_logs_say_which_days_they_lack(room: Room) -> None:
    await room.archive(1)
    url = "/api/usage/logs?aggregate=true"
    everything = (await room.api.get(url, headers=ADMIN)).json()["totals"]
    day = f"{url}&startDate=2025-11-22&endDate=2025-11-22"
    live = (await room.api.get(day, headers=ADMIN)).json()["totals"]

    assert (everything["requests"], everything["archivedDays"]) == (20, 1)
    assert (live["requests"], live["archivedDays"]) == (10, 0)


async def test_a_damaged_archive_is_no_silent_gap(room: Room) -> None:
    await room.archive(0)
    (file,) = room.archives.glob("*[0-9].parquet")
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    answer = await room.api.get(EXPORT, headers=ADMIN)

    assert (answer.status_code, answer.json()["code"]) == (503, "ARCHIVE_UNAVAILABLE")


async def test_callers_export_what_they_see(room: Room) -> None:
    user = {"authorization": f"Bearer {a_token()}"}
    live = await room.get("format=ndjson", **user)
    await room.archive(0)
    archived = await room.get("format=ndjson", **user)
    rows = [json.loads(line) for line in live.text.splitlines()]
    refused = await room.api.get(f"{EXPORT}?userId=u-2", headers=user)

    assert {row["userId"] for row in rows} == {"u-1"}
    assert len(rows) == 10
    assert all("system" not in row["metadata"] for row in rows)
    assert archived.content == live.content
    assert refused.status_code == 403


async def test_what_is_hidden_from_a_role_is_in_no_file(room: Room) -> None:
    auditor = {"authorization": f"Bearer {a_token(role='auditor')}"}
    live = await room.get("format=ndjson", **auditor)
    await room.archive(0)
    archived = await room.get("format=ndjson", **auditor)
    found = [json.loads(line)["metadata"] for line in live.text.splitlines()]

    assert len(found) == 10
    assert all(one["request"].keys() == {"endpoint", "method"} for one in found)
    assert all("response" not in one and "system" in one for one in found)
    assert archived.content == live.content


async def test_pseudonyms_hold_until_their_key_is_destroyed(room: Room) -> None:
    first, second = [rows_of(await room.get("pseudonymize=true")) for _ in range(2)]
    await room.archive(0)
    erased = await room.api.delete("/control/v1/users/u-1/pseudonym", headers=ADMIN)
    again = await room.api.delete("/control/v1/users/u-1/pseudonym", headers=ADMIN)
    after = rows_of(await room.get("pseudonymize=true"))
    names = [one["userId"] for one in first]
    kept = {json.dumps(sorted(json.loads(one["metadata"]))) for one in after}

    assert [one["userId"] for one in second] == names
    assert len(set(names)) == 3
    assert not any(name.startswith("u-") for name in names)
    assert {one["id"] for one in first}.isdisjoint(str(UUID(int=n)) for n in range(30))
    assert [one["userId"] for one in after] == [
        "erased" if number % 3 == 1 else names[number] for number in range(30)
    ]
    assert [one["id"] for one in after if one["userId"] == "erased"] == [""] * 10
    assert kept == {'["billing", "response"]'}
    assert erased.json() == again.json()
    with pytest.raises(asyncpg.RestrictViolationError):
        await room.pool.execute("DELETE FROM usage_pseudonyms")


async def test_how_it_began_and_ended_is_written_down(room: Room) -> None:
    user = {"authorization": f"Bearer {a_token()}"}
    content = (await room.get("service=openai", **user)).content
    listed = await room.api.get("/control/v1/audit?actor=u-1", headers=ADMIN)
    refused = await room.api.get("/control/v1/audit", headers=user)
    async with asyncio.timeout(5):  # the end is noted beside the answer
        while len(listed.json()["items"]) < 2:
            listed = await room.api.get("/control/v1/audit?actor=u-1", headers=ADMIN)
    ended, begun = listed.json()["items"]

    assert (begun["action"], ended["action"]) == (
        Action.EXPORT,
        Action.EXPORT_ENDED,
    )
    assert begun["details"] == {"service": "openai"}
    assert ended["details"]["rows"] == 10
    assert ended["details"]["sha256"] == hashlib.sha256(content).hexdigest()
    assert refused.status_code == 403
    for change in (
        *("UPDATE audit_log SET role = ''", "DELETE FROM audit_log"),
        "TRUNCATE audit_log",
    ):
        with pytest.raises(asyncpg.RestrictViolationError):
            await room.pool.execute(change)


async def test_what_a_newer_control_noted_can_be_read(room: Room) -> None:
    await room.pool.execute(
        "INSERT INTO audit_log (role, action, details) VALUES ('admin', 'new', '{}')"
    )
    answer = await room.api.get("/control/v1/audit", headers=ADMIN)

    actions = [one["action"] for one in answer.json()["items"]]
    assert actions == [Action.AUDIT, "new"]


async def test_an_empty_ledger_is_an_empty_file(room: Room) -> None:
    answer = await room.get("format=parquet&service=none")
    document = await room.get("format=json&service=none")

    assert parquet.read_table(io.BytesIO(answer.content)).num_rows == 0
    assert document.json()["items"] == []

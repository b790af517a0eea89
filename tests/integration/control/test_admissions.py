"""What authz learns from Envoy is enough to know the row of a request for certain."""

import asyncio
from pathlib import Path

import pytest

from authz.journal import start_of
from runtime.contracts import HEADER_REQUEST_ID, LABEL_INCARNATION, LABEL_NODE
from tests.integration.control.envoy_bench import a_bench

pytestmark = pytest.mark.e2e


async def test_authz_and_the_access_log_name_a_request_alike(tmp_path: Path) -> None:
    async with a_bench(tmp_path) as bench:
        answers = await asyncio.gather(*(bench.client.get("/echo") for _ in range(50)))
        entries = [
            await bench.entry(answer.headers[HEADER_REQUEST_ID]) for answer in answers
        ]
        asked = [question.attributes for question in bench.gatekeeper.asked]

    started = {
        one.request.http.headers[HEADER_REQUEST_ID]: start_of(one.request.time)
        for one in asked
    }
    # To the microsecond: id and start are the row's key.
    assert started == {entry["id"]: entry["start"] for entry in entries}
    assert len(started) == 50
    labels = {tuple(sorted(one.destination.labels.items())) for one in asked}
    (only,) = labels
    assert dict(only)[LABEL_NODE] == "envoy-1"
    assert dict(only)[LABEL_INCARNATION].startswith("life-")

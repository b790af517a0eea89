"""Requests that are like others before them, read with little work for each."""

import json
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.clock import FakeClock
from runtime.contracts.access_log import (
    ACCESS_LOG_ATTRIBUTES,
    LOG_AI_PREFIXES,
    LOG_OWN,
    LOG_SEPARATOR,
)
from tests.builders_ledger import a_request
from usage_sink import plain
from usage_sink.intake import Intake, Item
from usage_sink.plain import PlainRecord
from usage_sink.pricing import PricesInForce
from usage_sink.records import Misfit, UsageRecord
from usage_sink.segments import Entry, Kind, Position

NAMES = [one for one in ACCESS_LOG_ATTRIBUTES if not one.startswith(LOG_AI_PREFIXES)]
USUAL = {
    **dict.fromkeys(NAMES, "-"),
    "id": "1898cb76-5186-4544-94b5-381ef4a92a3d",
    "start": "1795306720.671844",
    "duration_ms": "12",
    "upstream_ms": "11",
    "bytes_received": "0",
    "bytes_sent": "211",
    "address": "192.0.2.7",
    "path": "/api/users/7",
    "user_id": "ada",
    "limits": "60;59;28;role user: 60 requests per 60 s",
    "route": "users",
    "service": "core-service",
    "ai": "false",
    "method": "GET",
    "protocol": "HTTP/1.1",
    "status": "200",
    "details": "via_upstream",
    "upstream": "127.0.0.1:3002",
    "role": "user",
    "reason": "token",
}
GOLDEN: dict[str, dict[str, str]] = json.loads(
    (Path(__file__).parent / "golden_entries.json").read_text()
)
#: What values are, may be, and should never be.
ODD = (
    *("", "-", "- ", "0", "7", "007", "+7", "-1", "1.5", "1_0", "7 ", "²", "٣"),
    *("999999999", "2147483648", "9223372036854775808", "9" * 5000),
    *("x", "a\x00b", "é", "a b", "\u2028", "\ue000", '"q\\', "x" * 129, "x" * 3000),
    *("/p?token=1", "/p#x", "200", "429", "503", "DC", "UAEX", "true", "1", "{}"),
    *("100;5;3;rule|7;08;9;x", "1;2;3", "a;1;2;3;r", "60;59;28;a|", "urn:uuid:x"),
    *(
        "1795306720",
        "1795306720.5",
        "1795306720.6718440",
        "99999999999.999999",
        "x.000001",
    ),
    "{1898cb76-5186-4544-94b5-381ef4a92a3d}",
    "1898CB76-5186-4544-94B5-381EF4A92A3D",
    "1898cb76518645449_4b5-381ef4a92a3d-_",
)


def an_export(
    *records: tuple[str, dict[str, str]],
    fields: str | None = None,
    node: str = "node-1",
) -> bytes:
    return bytes(a_request(*records, fields=fields, node=node).SerializeToString())


def bodies(*entries: dict[str, str]) -> bytes:
    """As Envoy sends them."""
    texts = [LOG_SEPARATOR.join(one[name] for name in NAMES) for one in entries]
    return an_export(*((text, {}) for text in texts), fields=",".join(NAMES))


def apart(*entries: dict[str, str]) -> bytes:
    """The same with attributes of their own, which are never plain."""
    return an_export(*(("", one) for one in entries))


def an_intake() -> Intake:
    return Intake(PricesInForce(FakeClock(), 0), region="eu", version="1.2.3")


def read(payload: bytes, intake: Intake | None = None) -> list[Item]:
    entry = Entry(Kind.OTLP, 0.0, payload, Position(1, 0))
    return list((intake or an_intake()).read(entry))


def whole(item: Item) -> Item:
    return item.whole() if isinstance(item, PlainRecord) else item


def the_row(item: Item) -> bytes:
    assert isinstance(item, PlainRecord | UsageRecord)
    return item.copied()


def test_the_attributes_of_each_request_s_own_come_first() -> None:
    assert tuple(ACCESS_LOG_ATTRIBUTES)[: len(LOG_OWN)] == LOG_OWN


def test_a_request_like_many_is_a_plain_record() -> None:
    (item,) = read(bodies(USUAL))
    (same,) = read(apart(USUAL))

    assert isinstance(item, PlainRecord)
    assert isinstance(same, UsageRecord)
    assert item.whole() == same
    assert (item.id, item.day, item.copied()) == (same.id, same.day, same.copied())


@given(
    st.lists(
        st.dictionaries(st.sampled_from(NAMES), st.sampled_from(ODD), max_size=3),
        min_size=1,
        max_size=4,
    )
)
def test_a_plain_record_is_the_row_that_it_would_be_without(
    changes: list[dict[str, str]],
) -> None:
    entries = [USUAL | change for change in changes]
    # Twice: what the first time taught is used the second time.
    found, expected = read(bodies(*entries, *entries)), read(apart(*entries, *entries))

    assert [whole(item) for item in found] == expected
    for item, same in zip(found, expected, strict=True):
        if isinstance(item, PlainRecord):
            assert the_row(item) == the_row(same)


@pytest.mark.parametrize("name", GOLDEN)
def test_what_envoy_says_is_the_same_row_either_way(name: str) -> None:
    entry = dict.fromkeys(NAMES, "-") | {
        key: value for key, value in GOLDEN[name].items() if key in NAMES
    }

    (item,), (same,) = read(bodies(entry)), read(apart(entry))

    assert whole(item) == same


@pytest.mark.parametrize(
    "change",
    [
        {"ai": "true"},
        {"usage_input": "7"},
        {"usage_service": "sora2"},
        {"session_id": "s-1"},
        {"conversation_id": "c-1"},
        {"path": "/p?q=1"},
        {"user_id": "a\x00b"},
        {"bytes_sent": "9223372036854775808"},
        {"upstream_ms": "9999999999"},
        {"start": "1795306720"},
        {"role": "x" * 65},
    ],
    ids=str,
)
def test_what_is_not_as_usual_is_read_as_before(change: dict[str, str]) -> None:
    usual, (item,) = read(bodies(USUAL))[0], read(bodies(USUAL | change))

    assert isinstance(usual, PlainRecord)
    assert isinstance(item, UsageRecord)


def test_a_body_that_does_not_fit_teaches_nothing() -> None:
    intake = an_intake()
    text = LOG_SEPARATOR.join(USUAL[name] for name in NAMES)
    broken = [text + LOG_SEPARATOR, text.rpartition(LOG_SEPARATOR)[0], "", "x"]

    payload = an_export(*((one, {}) for one in broken * 2), fields=",".join(NAMES))
    items = read(payload, intake)

    assert all(isinstance(item, Misfit) for item in items)
    assert isinstance(read(bodies(USUAL), intake)[0], PlainRecord)


def test_another_order_of_names_is_read_as_before() -> None:
    names = sorted(NAMES)
    body = LOG_SEPARATOR.join(USUAL[name] for name in names)

    (item,) = read(an_export((body, {}), fields=",".join(names)))

    assert item == read(apart(USUAL))[0]


def test_attributes_beside_the_body_count() -> None:
    body = LOG_SEPARATOR.join(USUAL[name] for name in NAMES)

    (item,) = read(an_export((body, {"llm_model": "m"}), fields=",".join(NAMES)))

    assert isinstance(item, UsageRecord)
    assert item.event.model == "m"


def test_each_node_s_rows_are_its_own() -> None:
    intake = an_intake()
    payloads = [
        an_export(
            (LOG_SEPARATOR.join(USUAL[name] for name in NAMES), {}),
            fields=",".join(NAMES),
            node=node,
        )
        for node in ("node-1", "node-2", "node-1")
    ]

    items = [whole(item) for payload in payloads for item in read(payload, intake)]

    nodes = [item.origin.node for item in items if isinstance(item, UsageRecord)]
    assert nodes == ["node-1", "node-2", "node-1"]


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain, "_MOST_FORMS", 3)
    monkeypatch.setattr(plain, "_MOST_LAYOUTS", 2)
    intake = an_intake()

    for number in range(10):
        entry = USUAL | {"id": str(uuid4()), "route": f"r{number}"}
        body = LOG_SEPARATOR.join(entry[name] for name in NAMES)
        payload = an_export((body, {}), fields=",".join(NAMES), node=f"n{number}")
        (item,) = read(payload, intake)
        assert the_row(item) == the_row(whole(item))


def test_what_2000_routes_have_in_common_is_learned_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    learned: list[str] = []
    learn = plain.Layout._form

    def noting(layout: plain.Layout, body: str) -> object:
        learned.append(body)
        return learn(layout, body)

    monkeypatch.setattr(plain.Layout, "_form", noting)
    intake = an_intake()

    for number in (*range(2000), *range(2000)):
        entry = USUAL | {"id": str(uuid4()), "route": f"r{number}"}
        body = LOG_SEPARATOR.join(entry[name] for name in NAMES)
        list(read(an_export((body, {}), fields=",".join(NAMES), node="n"), intake))

    assert len(learned) == 2000


def test_a_fault_of_ours_costs_time_and_no_record(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(_self: plain.Layout, _body: str) -> PlainRecord:
        raise RuntimeError

    monkeypatch.setattr(plain.Layout, "record", fail)

    assert read(bodies(USUAL)) == read(apart(USUAL))

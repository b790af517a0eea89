"""From a provider's bytes through the real Envoy to the tokens and the charge."""

import asyncio
import gzip
import itertools
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import httpx
import pytest
import pytest_asyncio

from control.model import GatewayConfig
from control.parse import from_document
from runtime.contracts import Pricing, UsageSource
from tests.integration.control.envoy_bench import Bench, a_bench, until
from tests.integration.control.providers import (
    EVENTS,
    JSON,
    Answer,
    Ending,
    Provider,
    a_provider,
)
from usage_sink.events import UsageEvent, read
from usage_sink.prices import parse

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]

DEADLINE_S = 20.0
#: Client, provider and authz share a process, and Envoy gives a decision 0.25 s.
AT_A_TIME = 4
SSE = "text/event-stream"

#: The same call at each provider, so the same counts: input, output, cached, reasoning.
WHOLE = (100, 40, 64, 30)
#: Anthropic says nothing of reasoning; Envoy writes 0.
WHOLE_OF = dict.fromkeys(JSON, WHOLE) | {"anthropic": (100, 40, 64, 0)}

_NOTHING = (None, None, None, None)
#: What is known after so many events.
KNOWN: dict[str, list[tuple[int | None, ...]]] = {
    "openai": [_NOTHING, _NOTHING, _NOTHING, WHOLE, WHOLE],
    "responses": [_NOTHING, _NOTHING, _NOTHING, WHOLE],
    "anthropic": [
        _NOTHING,
        (100, 1, 64, None),
        (100, 1, 64, None),
        (100, 40, 64, None),
        (100, 40, 64, None),
    ],
    "gemini": [_NOTHING, (96, None, None, None), WHOLE],
}
SERVICE = {"openai": "openai", "responses": "openai", "anthropic": "claude"} | {
    "gemini": "gemini"
}


@dataclass
class Calls:
    """Makes calls, and knows what became of each in the access log."""

    bench: Bench
    provider: Provider
    _number: Iterator[int] = field(default_factory=itertools.count)

    async def make(
        self, answer: Answer, *, stop_after: int | None = None, prefix: str = "/ai"
    ) -> str:
        """Read piece by piece; hang up after `stop_after` pieces. The request's id."""
        path = f"{prefix}/{next(self._number)}"
        self.provider.answers[path] = answer
        async with self.bench.client.stream("POST", path) as response:
            try:
                await self._receive(response, answer, stop_after)
            except httpx.HTTPError:
                assert answer.ending is Ending.RESET
            return str(response.headers["x-request-id"])

    async def _receive(
        self, response: httpx.Response, answer: Answer, stop_after: int | None
    ) -> None:
        if stop_after == 0:
            return
        marks = list(itertools.accumulate(map(len, answer.pieces)))[:stop_after]
        received = 0
        async for data in response.aiter_raw():
            received += len(data)
            while marks and received >= marks[0]:
                del marks[0]
                answer.received.release()
            if stop_after is not None and not marks:
                return

    async def events(self, *ids: str) -> list[UsageEvent]:
        """In the order of `ids`."""

        async def look() -> dict[str, UsageEvent] | None:
            found = {}
            for entry in self.bench.entries():
                if entry["id"] in ids:
                    found[entry["id"]] = event_of(entry)
            return found if len(found) == len(set(ids)) else None

        by_id = await until(look)
        return [by_id[one] for one in ids]


def event_of(entry: dict[str, Any]) -> UsageEvent:
    found = read({name: str(said) for name, said in entry.items() if said is not None})
    assert isinstance(found, UsageEvent)
    return found


def configuration(port: int) -> GatewayConfig:
    instances = [f"127.0.0.1:{port}"]
    config: GatewayConfig = from_document(
        {
            "version": 1,
            "services": {
                "provider": {"instances": instances},
                "stranger": {"instances": instances, "usage_headers": False},
            },
            "routes": [
                _route("ai", service="provider"),
                _route("strange", service="stranger"),
                _route("asking", service="provider", include_usage=True),
            ],
            "limits": {"max_request_bytes": 200_000},
            "edge": {"logged_query_parameters": ["page", "api-version"]},
        }
    )
    return config


def _route(name: str, **parts: object) -> dict[str, object]:
    common = {"ai": True, "retry": "none", "rate_limit": "none"}
    return {"id": name, "prefix": f"/{name}", **common, **parts}


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def calls(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Calls]:
    async with a_provider() as provider:
        config = configuration(provider.port)
        folder = tmp_path_factory.mktemp("envoy")
        async with a_bench(folder, lambda _: config) as bench:
            yield Calls(bench, provider)


def counts(event: UsageEvent) -> tuple[int | None, ...]:
    usage = event.usage
    return usage.input, usage.output, usage.cached, usage.reasoning


def whole(name: str, form: str) -> Answer:
    if form == "stream":
        return Answer([b"".join(EVENTS[name])], SSE)
    body = json.dumps(JSON[name]).encode()
    if form == "gzip":
        encoded = {"content-encoding": "gzip"}
        return Answer([gzip.compress(body)], headers=encoded)
    return Answer([body])


LINE = {"from": "2026-01-01", "model": "*", "input_per_1000": "2.5"}
RATES = {"output_per_1000": "10", "cached_per_1000": "1.25"}


@pytest.mark.parametrize("form", ["json", "stream", "gzip"])
@pytest.mark.parametrize("name", list(JSON))
async def test_the_same_call_costs_the_same_at_every_provider(
    calls: Calls, name: str, form: str
) -> None:
    """36 input, 64 cached, 40 output of which 30 reasoning; nothing counted twice."""
    (event,) = await calls.events(await calls.make(whole(name, form)))
    book = parse(
        {"version": "v", "prices": [{"service": SERVICE[name], **LINE, **RATES}]}
    )
    charge = book.charge(event)

    assert counts(event) == WHOLE_OF[name]
    assert (event.usage.source, event.usage.total) == (UsageSource.PROVIDER, 140)
    assert (event.service, event.model) == (SERVICE[name], JSON_MODEL[name])
    assert charge.pricing is Pricing.PRICED
    assert charge.cost == Decimal("0.57")  # 36 * 2.5 + 64 * 1.25 + 40 * 10, / 1000


JSON_MODEL = {
    name: body.get("model", body.get("modelVersion")) for name, body in JSON.items()
}


async def test_a_model_without_a_price_is_marked_not_free(calls: Calls) -> None:
    (event,) = await calls.events(await calls.make(whole("openai", "json")))
    book = parse({"version": "v", "prices": [{"service": "claude", **LINE, **RATES}]})

    assert book.charge(event).pricing is Pricing.UNPRICED


@pytest.mark.parametrize("ending", ["reset", "client gone", "clean"])
@pytest.mark.parametrize("name", list(EVENTS))
async def test_a_stream_cut_at_any_event_counts_what_was_said(
    calls: Calls, name: str, ending: str
) -> None:
    """Only a whole stream is `provider`; a cut one is `partial`, never free."""
    events = EVENTS[name]

    async def cut(many: int) -> str:
        if ending == "reset":
            return await calls.make(Answer(events[:many], SSE, Ending.RESET))
        if ending == "clean":
            return await calls.make(Answer(events[:many], SSE))
        answer = Answer(events[: many + 1], SSE, Ending.SILENCE)
        return await calls.make(answer, stop_after=many + 1)

    found = await calls.events(*await asyncio.gather(*map(cut, range(len(events)))))
    first = 1 if ending == "client gone" else 0
    known = KNOWN[name][first : first + len(events)]

    assert [counts(one) for one in found] == (
        known if ending != "clean" else [_at_a_clean_end(name, one) for one in known]
    )
    assert [one.usage.source for one in found] == [
        UsageSource.PARTIAL if ending != "clean" else _source(one) for one in known
    ]
    assert all(one.is_ai for one in found)
    assert [one.service for one in found[1:]] == [SERVICE[name]] * (len(events) - 1)


def _at_a_clean_end(name: str, known: tuple[int | None, ...]) -> Any:
    """Envoy's record of a whole answer: it writes 0 for what was not said."""
    return WHOLE_OF[name] if known[:2] == WHOLE[:2] else known


def _source(known: tuple[int | None, ...]) -> UsageSource:
    if known[:2] == WHOLE[:2]:
        return UsageSource.PROVIDER
    return UsageSource.ABSENT if known[0] is None else UsageSource.PARTIAL


@pytest.mark.parametrize(
    ("name", "form"), [*((name, "json") for name in JSON), ("anthropic", "stream")]
)
async def test_an_answer_split_at_any_byte_is_counted_the_same(
    calls: Calls, name: str, form: str
) -> None:
    """The second part is sent when the client has had the first."""
    body = whole(name, form).pieces[0]
    kind = SSE if form == "stream" else "application/json"
    room = asyncio.Semaphore(AT_A_TIME)

    async def split(at: int) -> str:
        async with room:
            return await calls.make(Answer([body[:at], body[at:]], kind))

    async with asyncio.timeout(DEADLINE_S):
        ids = await asyncio.gather(*map(split, range(1, len(body))))
        found = await calls.events(*ids)

    assert {counts(one) for one in found} == {WHOLE_OF[name]}
    assert {one.usage.source for one in found} == {UsageSource.PROVIDER}


USAGE_HEADERS = {"x-usage-credits": "7", "x-usage-input-tokens": "1"}


@pytest.mark.parametrize(
    ("prefix", "credits_"), [("/ai", Decimal(7)), ("/strange", None)]
)
async def test_only_a_trusted_service_says_what_it_took(
    calls: Calls, prefix: str, credits_: Decimal | None
) -> None:
    answer = Answer([b"{}"], headers=USAGE_HEADERS)
    (event,) = await calls.events(await calls.make(answer, prefix=prefix))

    assert event.reported_credits == credits_
    assert event.usage.input == (None if credits_ is None else 1)


async def test_what_a_stranger_says_of_usage_does_not_reach_the_client(
    calls: Calls,
) -> None:
    calls.provider.answers["/strange/x"] = Answer([b"{}"], headers=USAGE_HEADERS)
    answer = await calls.bench.client.get("/strange/x")

    assert answer.status_code == 200
    assert not [name for name in answer.headers if name.startswith("x-usage-")]


async def test_of_a_query_only_what_is_listed_is_kept(calls: Calls) -> None:
    calls.provider.answers["/ai/x"] = Answer([b"{}"])
    secrets = "token=s3cret&page=%41%22b&api-version=2&code=s3cret&pages=s3cret"
    answer = await calls.bench.client.get(f"/ai/x?{secrets}")
    entry = await calls.bench.entry(answer.headers["x-request-id"])

    assert event_of(entry).parameters == (("page", 'A"b'), ("api-version", "2"))
    assert "s3cret" not in str(entry)


ASKED = b'"stream_options":{"include_usage":true}'


@pytest.mark.parametrize(
    ("body", "sent", "is_hidden"),
    [
        (b'{"stream":true}', b'{"stream":true,%s}' % ASKED, True),
        (b' {"stream" : true } ', b' {"stream" : true ,%s}' % ASKED, True),
        (
            b'{"stream_options":null,"stream":true}',
            b"{%s," % ASKED + b'"stream":true}',
            True,
        ),
        (
            b'{"stream":true,"stream_options":{"include_usage":false}}',
            b'{"stream":true,%s}' % ASKED,
            True,
        ),
        (
            b'{"stream":true,"stream_options":{"x":[1,{}]}}',
            b'{"stream":true,"stream_options":{"x":[1,{}],"include_usage":true}}',
            True,
        ),
        (
            b'{"a":"{\\"stream_options\\":","stream":true}',
            b'{"a":"{\\"stream_options\\":","stream":true,%s}' % ASKED,
            True,
        ),
        (b'{"stream":true,%s}' % ASKED, None, False),
        (b'{"stream":false}', None, False),
        (b'{"tools":[{"stream":true}]}', None, False),
        (b'{"a":"\\",\\"stream\\":true"}', None, False),
        (b'[{"stream":true}]', None, False),
        (b'{"stream":true', None, False),
        (b'{"stream":true}}', None, False),
        (b"", None, False),
    ],
)
async def test_a_stream_is_asked_for_usage_that_its_client_need_not_see(
    calls: Calls,
    body: bytes,
    sent: bytes | None,
    is_hidden: bool,  # noqa: FBT001 - a column of the table
) -> None:
    """Shown in pieces of seven bytes, so that no event arrives whole."""
    stream = b"".join(EVENTS["openai"])
    pieces = [stream[at : at + 7] for at in range(0, len(stream), 7)]
    answer = Answer(pieces, SSE)
    for _ in pieces:
        answer.received.release()
    calls.provider.answers["/asking/x"] = answer
    seen = await calls.bench.client.post(
        "/asking/x", content=body, headers={"content-type": "application/json"}
    )
    (event,) = await calls.events(seen.headers["x-request-id"])

    assert calls.provider.asked["/asking/x"] == (body if sent is None else sent)
    assert seen.content == stream.replace(EVENTS["openai"][2] * is_hidden, b"")
    assert (counts(event), event.usage.source) == (WHOLE, UsageSource.PROVIDER)


async def test_a_body_that_is_held_may_be_as_large_as_any(calls: Calls) -> None:
    def body(size: int) -> bytes:
        return b'{"stream":true,"pad":"%s"}' % (b"x" * size)

    calls.provider.answers["/asking/x"] = Answer([b"{}"])
    headers = {"content-type": "application/json"}
    large, larger = [
        await calls.bench.client.post("/asking/x", content=body(size), headers=headers)
        for size in (190_000, 210_000)
    ]

    assert large.status_code == 200
    assert calls.provider.asked["/asking/x"].endswith(b'",%s}' % ASKED)
    assert (larger.status_code, larger.json()["code"]) == (413, "PAYLOAD_TOO_LARGE")


async def test_the_first_event_is_not_held_for_the_next(calls: Calls) -> None:
    """The provider goes on only when the client has had what came before."""
    events = EVENTS["openai"]
    shown = [one for number, one in enumerate(events) if number != 2]
    answer = Answer([events[0], events[1], events[2] + events[3]], SSE)
    calls.provider.answers["/asking/x"] = answer
    received = b""
    async with (
        asyncio.timeout(DEADLINE_S),
        calls.bench.client.stream(
            "POST",
            "/asking/x",
            content=b'{"stream":true}',
            headers={"content-type": "application/json"},
        ) as response,
    ):
        async for data in response.aiter_raw():
            received += data
            if received in (shown[0], shown[0] + shown[1]):
                answer.received.release()

    assert received == b"".join(shown)

"""Access-log entries, most of them as the real Envoy 1.40 wrote them, to events."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.contracts import Outcome, UsageSource
from runtime.contracts.access_log import ACCESS_LOG_ATTRIBUTES
from usage_sink.events import LimitState, NotARequest, Rejected, Usage, UsageEvent, read
from usage_sink.values import INT4_MAX, INT8_MAX, instant

GOLDEN: dict[str, dict[str, str]] = json.loads(
    (Path(__file__).parent / "golden_entries.json").read_text()
)
ABSENT = Usage(UsageSource.ABSENT)


def event(name: str = "plain call", /, **changes: str) -> UsageEvent:
    result = read({**GOLDEN[name], **changes})
    assert isinstance(result, UsageEvent)
    return result


@pytest.mark.parametrize(
    ("entry", "service", "model", "usage"),
    [
        (
            "OpenAI JSON",
            "openai",
            "gpt-4o-mini-2024-07-18",
            Usage(UsageSource.PROVIDER, 124, 101, 23, 64),
        ),
        (
            "OpenAI SSE",
            "openai",
            "gpt-4o-mini",
            Usage(UsageSource.PROVIDER, 16, 11, 5, 0),
        ),
        (
            "Anthropic JSON",
            "claude",
            "claude-3-5-sonnet-20241022",
            Usage(UsageSource.PROVIDER, 131, 108, 23, 7),
        ),
        (
            "Anthropic SSE",
            "claude",
            "claude-3-5-haiku",
            Usage(UsageSource.PROVIDER, 57, 40, 17, 9),
        ),
        (
            "OpenAI JSON with zero tokens",
            "openai",
            "gpt-4o-mini-2024-07-18",
            Usage(UsageSource.PROVIDER, 0, 0, 0, 0),
        ),
        (
            "usage headers",
            "sora2",
            "sora2-video",
            Usage(UsageSource.HEADER, 0, 0, None, None),
        ),
        ("unreadable JSON", "mcp-server", None, ABSENT),
        ("JSON without usage", "mcp-server", None, ABSENT),
        ("plain call", "mcp-server", None, ABSENT),
        ("no route", "gateway", None, ABSENT),
    ],
)
def test_service_model_and_tokens_are_what_the_provider_said(
    entry: str, service: str, model: str | None, usage: Usage
) -> None:
    found = event(entry)

    assert (found.service, found.model, found.usage) == (service, model, usage)


@pytest.mark.parametrize(
    ("entry", "is_ai"),
    [
        ("OpenAI JSON", True),
        ("unreadable JSON", True),
        ("usage headers", True),
        ("plain call", False),
        ("JSON without usage", False),
        ("rate limited", False),
    ],
)
def test_an_ai_call_is_known_by_what_it_left_behind(entry: str, is_ai: bool) -> None:  # noqa: FBT001 - a column of the table
    assert event(entry).is_ai is is_ai


@pytest.mark.parametrize(
    ("entry", "outcome"),
    [
        ("OpenAI JSON", Outcome.OK),
        ("WebSocket", Outcome.OK),
        ("direct response", Outcome.OK),
        ("client gone", Outcome.ABORTED),
        ("denied by authz", Outcome.DENIED),
        ("authz down", Outcome.GATEWAY_ERROR),
        ("rate limited", Outcome.LIMITED),
        ("upstream 429", Outcome.CLIENT_ERROR),
        ("no route", Outcome.CLIENT_ERROR),
        ("upstream 500", Outcome.UPSTREAM_ERROR),
        ("stream cut by the upstream", Outcome.UPSTREAM_ERROR),
        ("upstream reset", Outcome.UPSTREAM_ERROR),
        ("upstream timeout", Outcome.UPSTREAM_ERROR),
        ("no upstream", Outcome.UPSTREAM_ERROR),
    ],
)
def test_the_outcome_says_who_is_answerable(entry: str, outcome: Outcome) -> None:
    assert event(entry).outcome is outcome


@pytest.mark.parametrize(
    ("changes", "outcome"),
    [
        ({"status": "500", "details": "filter_chain_not_found"}, Outcome.GATEWAY_ERROR),
        ({"status": "503", "flags": "NC"}, Outcome.GATEWAY_ERROR),
        ({"status": "429", "flags": "UAEX"}, Outcome.LIMITED),
        ({"status": "503", "flags": "UF,URX"}, Outcome.UPSTREAM_ERROR),
        ({"status": "0"}, Outcome.ABORTED),
        ({"status": "0", "flags": "DC"}, Outcome.ABORTED),
    ],
)
def test_a_flag_says_more_than_a_status(
    changes: dict[str, str], outcome: Outcome
) -> None:
    assert event(**changes).outcome is outcome


@pytest.mark.parametrize("entry", GOLDEN)
def test_both_transports_give_the_identical_event(entry: str) -> None:
    """OTLP writes "-" where ALS leaves the tag out."""
    otlp = GOLDEN[entry]
    als = {key: value for key, value in otlp.items() if value not in ("-", "")}

    assert read(als) == read(otlp)


def test_what_was_never_a_request_is_told_apart() -> None:
    assert read(GOLDEN["garbage bytes"]) == NotARequest()
    assert read({}) == NotARequest()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"id": "-"}, "id is not a UUID"),
        ({"id": "17"}, "id is not a UUID"),
        ({"start": "-"}, "start is not a time in Unix seconds"),
        ({"start": "yesterday"}, "start is not a time in Unix seconds"),
        ({"start": "100000000000.000000"}, "start is not a time in Unix seconds"),
        ({"start": "1795306215.5417601"}, "start is not a time in Unix seconds"),
    ],
)
def test_an_entry_without_a_key_is_rejected_with_the_reason(
    changes: dict[str, str], reason: str
) -> None:
    assert read({**GOLDEN["plain call"], **changes}) == Rejected(reason)


@given(st.integers(0, 4_000_000_000), st.integers(0, 999_999))
def test_the_start_is_exact_to_the_microsecond(second: int, micro: int) -> None:
    epoch = datetime(1970, 1, 1, tzinfo=UTC)

    assert instant(f"{second}.{micro:06d}") == epoch + timedelta(
        seconds=second, microseconds=micro
    )


def test_the_identity_is_the_request_id_and_its_start() -> None:
    found = event("plain call", id="7d9c0f4e-3f5b-4a57-9a5c-000000000009")

    assert found.id == UUID("7d9c0f4e-3f5b-4a57-9a5c-000000000009")
    assert found.created_at == instant(GOLDEN["plain call"]["start"])


def test_a_guest_has_no_user_id() -> None:
    assert event("plain call").user_id is None
    assert event("rate limited").user_id == "u-1"


def test_a_query_string_never_enters() -> None:
    assert event(path="/api/ws/echo?token=secret").endpoint == "/api/ws/echo"
    assert event(path="/a#b?token=secret").endpoint == "/a"


def test_upstream_names_go_before_what_envoy_read() -> None:
    found = event("OpenAI JSON", usage_service="azure", usage_model="gpt-4o-eu")

    assert (found.service, found.model) == ("azure", "gpt-4o-eu")
    assert found.usage.source is UsageSource.PROVIDER


def test_headers_count_where_envoy_has_only_a_part() -> None:
    found = event("OpenAI JSON", llm_status="2", usage_input="7", usage_output="3")

    assert found.usage == Usage(UsageSource.HEADER, 10, 7, 3, None)


def test_a_partial_record_is_marked_partial() -> None:
    found = event("Anthropic SSE", llm_status="2", llm_output="-")

    assert found.usage == Usage(UsageSource.PARTIAL, 57, 40, None, 9)


@pytest.mark.parametrize("entry", ["client gone", "stream cut by the upstream"])
def test_a_cut_answer_on_an_ai_route_is_partial(entry: str) -> None:
    found = event(entry, ai="true")

    assert found.is_ai
    assert found.usage == Usage(UsageSource.PARTIAL)


def test_an_ai_route_that_answered_without_usage_is_ai_and_absent() -> None:
    found = event("JSON without usage", ai="true")

    assert found.is_ai
    assert found.usage == ABSENT


def test_a_denied_call_to_an_ai_route_used_nothing() -> None:
    assert not event("denied by authz", ai="true").is_ai


@pytest.mark.parametrize(
    ("text", "reported"),
    [("40", Decimal(40)), ("0", Decimal(0)), ("1.5", Decimal("1.5")), ("1e9", None)],
)
def test_reported_credits_are_plain_decimals(
    text: str, reported: Decimal | None
) -> None:
    assert event(usage_credits=text).reported_credits == reported


def test_what_a_column_cannot_hold_is_clamped_and_marked() -> None:
    found = event(
        "OpenAI JSON",
        llm_input="9" * 5000,
        duration_ms="-5",
        bytes_sent="9" * 19,
        user_id="u" * 300,
        model="x",
    )

    assert found.usage.input == INT4_MAX
    assert found.usage.total == INT4_MAX
    assert found.bytes_sent == INT8_MAX
    assert found.duration_ms == 0
    assert found.user_id == "u" * 256
    assert found.adjusted == ("llm_input", "user_id", "duration_ms", "bytes_sent")


def test_what_postgresql_cannot_store_is_stripped_and_marked() -> None:
    found = event(user_id="u\x001\ud800", session_id="\x00")

    assert found.user_id == "u1"
    assert found.session_id is None
    assert found.adjusted == ("user_id", "session_id")


@given(
    st.dictionaries(
        st.sampled_from([*ACCESS_LOG_ATTRIBUTES, "ai"]), st.text(max_size=40)
    )
)
def test_any_attributes_give_an_answer(attributes: dict[str, str]) -> None:
    assert isinstance(
        read({**GOLDEN["plain call"], **attributes}),
        UsageEvent | Rejected | NotARequest,
    )


CUT = {"ai": "true", "status": "200", "flags": "UC", "sse_model": "m-1"}


@pytest.mark.parametrize(
    ("sse", "service", "usage"),
    [
        (
            '{"protocol":"1","input":100,"output":40,"cached":64,"reasoning":30} ',
            "openai",
            Usage(UsageSource.PARTIAL, 140, 100, 40, 64, 30),
        ),
        (
            '{"protocol":"3","input":30,"cache_read":64,"cache_creation":6,"output":1}',
            "claude",
            Usage(
                UsageSource.PARTIAL,
                101,
                100,
                1,
                64,
                None,
                (("cacheCreationTokens", 6),),
            ),
        ),
        (
            '{"protocol":"4","input":96,"tool_use":4,"cached":64,"output":10,"thoughts":30}',
            "gemini",
            Usage(UsageSource.PARTIAL, 140, 100, 40, 64, 30, (("toolUseTokens", 4),)),
        ),
        ('{"protocol":"1"}', "openai", Usage(UsageSource.PARTIAL)),
    ],
    ids=["OpenAI", "Anthropic", "Gemini", "nothing counted"],
)
def test_a_cut_stream_counts_alike_for_every_provider(
    sse: str, service: str, usage: Usage
) -> None:
    found = event(**CUT, sse=sse)

    assert (found.usage, found.service, found.model) == (usage, service, "m-1")
    assert found.is_ai


@pytest.mark.parametrize(
    "sse",
    [
        "{",
        '{"input":-1}',
        '{"input":"1"}',
        '{"input":null}',
        '{"input":1e999}',
        '{"input":NaN}',
        '{"protocol":{}}',
        '{"a":' + "[" * 1015,
        "[1]",
        "- ",
    ],
)
def test_what_no_stream_would_say_counts_nothing(sse: str) -> None:
    found = event(**CUT, sse=sse)

    assert found.usage == Usage(UsageSource.PARTIAL)
    assert found.is_ai


def test_a_record_of_a_stream_whose_end_was_not_seen_is_partial() -> None:
    """HTTP ended as it should; the provider had not said everything."""
    said = '{"protocol":"3","input":30,"output":1}'
    entry = "Anthropic SSE"

    assert event(entry, sse=said).usage == Usage(UsageSource.PARTIAL, 31, 30, 1)
    ended = said.replace("}", ',"final":"1"}')
    assert event(entry, sse=ended).usage.source is UsageSource.PROVIDER


def test_details_that_have_no_column_are_kept() -> None:
    found = event(
        "OpenAI JSON",
        llm_reasoning="7",
        llm_tool_use="0",
        llm_cache_creation="3",
        llm_provider_total="124",
    )

    assert found.usage.reasoning == 7
    assert found.usage.details == (("cacheCreationTokens", 3), ("totalTokens", 124))


def test_of_a_query_only_listed_parameters_are_read() -> None:
    listed = {"query": "page,size", "query.page": "2", "query.size": "-"}
    found = event(**listed, **{"query.token": "secret"})

    assert found.parameters == (("page", "2"),)


def test_what_the_gateway_did_with_a_request_is_kept() -> None:
    limits = "60;0;61;role user: 60 requests per 60 s|5;2;1;route a: 5 requests|7;bad"

    found = event(
        "OpenAI JSON", limits=limits, details="upstream_response_timeout", flags="UT"
    )

    assert (found.upstream, found.first_byte_ms) == ("127.0.0.1:3003", 1)
    assert (found.flags, found.details) == ("UT", "upstream_response_timeout")
    assert found.limits == (
        LimitState("role user: 60 requests per 60 s", 60, 0, 61),
        LimitState("route a: 5 requests", 5, 2, 1),
    )


def test_what_is_said_of_nearly_every_answer_is_not_kept_with_each() -> None:
    assert event(details="via_upstream").details is None

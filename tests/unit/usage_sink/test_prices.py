"""What an AI call costs."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.clock import FakeClock
from runtime.contracts import Pricing, UsageSource
from usage_sink.errors import BadPriceBook, PricesPending
from usage_sink.events import Usage, UsageEvent, read
from usage_sink.prices import NO_PRICES, PriceBook, cost_of, parse
from usage_sink.pricing import PricesInForce
from usage_sink.records import COLUMNS, Origin, UsageRecord, is_disputed
from usage_sink.values import INT4_MAX

GOLDEN = json.loads((Path(__file__).parent / "golden_entries.json").read_text())
ORIGIN = Origin("node-1", "local", "0.1.0")


def line(**changes: object) -> dict[str, Any]:
    return {
        "service": "openai",
        "model": "gpt-4o*",
        "from": "2026-01-01",
        "input_per_1000": "2.5",
        "output_per_1000": "10",
        "cached_per_1000": "1.25",
        "per_call": "0",
        **changes,
    }


def book(*lines: dict[str, Any]) -> PriceBook:
    return parse({"version": "v1", "prices": list(lines)})


def event(name: str, **changes: Any) -> UsageEvent:
    found = read(GOLDEN[name])
    assert isinstance(found, UsageEvent)
    return replace(found, **changes)


def used(**counts: Any) -> UsageEvent:
    return event("OpenAI JSON", usage=Usage(UsageSource.PROVIDER, **counts))


def test_cached_tokens_are_charged_once_at_their_own_rate() -> None:
    """101 input of which 64 cached, 23 output."""
    charge = book(line()).charge(event("OpenAI JSON"))

    assert charge.cost == Decimal("0.4025")  # 37 * 2.5 + 64 * 1.25 + 23 * 10, / 1000
    assert (charge.pricing, charge.credits) == (Pricing.PRICED, 1)
    assert charge.version == "v1"


def test_anthropic_is_charged_like_openai_since_envoy_includes_cached_tokens() -> None:
    claude = line(service="claude", model="claude-3-5-*")

    charge = book(claude).charge(event("Anthropic JSON"))

    assert charge.cost == Decimal("0.49125")  # 101 * 2.5 + 7 * 1.25 + 23 * 10, / 1000


def test_without_a_cached_rate_cached_tokens_are_input() -> None:
    charge = book(line(cached_per_1000=None)).charge(event("OpenAI JSON"))

    assert charge.cost == Decimal("0.4825")


@pytest.mark.parametrize(
    ("tokens", "credits"),
    [
        pytest.param(0, 0, id="nothing costs nothing"),
        pytest.param(1, 1, id="the smallest fraction is a whole credit"),
        pytest.param(400, 1, id="a whole credit stays one"),
        pytest.param(401, 2, id="above it, the next"),
    ],
)
def test_the_exact_cost_is_rounded_up(tokens: int, credits: int) -> None:  # noqa: A002 - the column's name
    assert book(line()).charge(used(input=tokens, output=0)).credits == credits


@given(
    st.integers(0, INT4_MAX),
    st.integers(0, INT4_MAX),
    st.integers(0, INT4_MAX),
    st.decimals(0, 10**11, places=12),
)
def test_no_digit_of_a_cost_is_lost(
    input_: int, cached: int, output: int, rate: Decimal
) -> None:
    priced = line(input_per_1000=f"{rate:f}", output_per_1000=f"{rate:f}")
    price = book(priced).find("openai", "gpt-4o", datetime(2026, 6, 1, tzinfo=UTC))
    assert price is not None

    cost = cost_of(
        Usage(UsageSource.PROVIDER, None, input_, output, cached),
        price,
    )

    charged_cached = min(cached, input_)
    exact = Fraction(rate) * (input_ - charged_cached + output)
    exact += Fraction("1.25") * charged_cached
    assert Fraction(cost) == exact / 1000


def test_a_call_has_its_own_price_beside_tokens() -> None:
    sora = line(service="sora2", model="*", input_per_1000="0", output_per_1000="0")
    call = event("usage headers", reported_credits=None)

    charge = book({**sora, "cached_per_1000": "0", "per_call": "40"}).charge(call)

    assert (charge.pricing, charge.credits) == (Pricing.PRICED, 40)


def test_a_price_by_call_needs_no_count() -> None:
    per_call = {"service": "mcp-server", "model": "*", "from": "2026-01-01"}

    charge = book({**per_call, "per_call": "3"}).charge(event("unreadable JSON"))

    assert (charge.pricing, charge.credits) == (Pricing.PRICED, 3)


def test_reported_credits_go_before_the_book() -> None:
    charge = book(line(service="sora2", model="*")).charge(event("usage headers"))

    assert (charge.pricing, charge.credits) == (Pricing.REPORTED, 40)
    assert charge.version is None


@pytest.mark.parametrize(
    ("per_call", "by_book"),
    [
        pytest.param("39.5", None, id="the same credits"),
        pytest.param("39", Decimal(39), id="fewer"),
        pytest.param("40.5", Decimal("40.5"), id="more"),
    ],
)
def test_what_the_book_says_is_kept_where_an_upstream_took_other_credits(
    per_call: str, by_book: Decimal | None
) -> None:
    sora = {"service": "sora2", "model": "*", "from": "2026-01-01"}
    call = event("usage headers")

    charge = book({**sora, "per_call": per_call}).charge(call)

    assert (charge.credits, charge.book_cost) == (40, by_book)
    record = UsageRecord(call, charge, ORIGIN)
    billing = json.loads(record.metadata(), parse_float=Decimal)["billing"]
    assert billing.get("bookCost") == by_book
    assert is_disputed(record) is (by_book is not None)


@pytest.mark.parametrize(
    ("call", "prices"),
    [
        pytest.param(event("OpenAI JSON"), [], id="empty book"),
        pytest.param(event("OpenAI JSON"), [line(model="gpt-5*")], id="other model"),
        pytest.param(event("OpenAI JSON"), [line(service="x")], id="other service"),
        pytest.param(
            event("OpenAI JSON"), [{**line(), "from": "2999-01-01"}], id="yet"
        ),
        pytest.param(
            event("unreadable JSON"),
            [line(service="mcp-server", model="*")],
            id="tokens that nobody counted",
        ),
    ],
)
def test_an_ai_call_without_a_price_is_unpriced_never_free(
    call: UsageEvent, prices: list[dict[str, Any]]
) -> None:
    charge = book(*prices).charge(call)

    assert (charge.pricing, charge.credits) == (Pricing.UNPRICED, 0)


def test_a_call_without_ai_is_free() -> None:
    assert book(line()).charge(event("plain call")).pricing is Pricing.FREE


def test_the_most_specific_pattern_then_the_latest_start_decides() -> None:
    found = book(
        line(model="*", input_per_1000="1"),
        line(model="gpt-4o*", input_per_1000="2"),
        {**line(model="gpt-4o*", input_per_1000="3"), "from": "2026-03-01"},
        {**line(model="gpt-4o-mini*", input_per_1000="4"), "from": "2026-06-01"},
        line(model="gpt-4o-?", input_per_1000="5"),
    )

    def rate(model: str, month: int) -> Decimal | None:
        price = found.find("openai", model, datetime(2026, month, 1, tzinfo=UTC))
        return None if price is None else price.input

    assert rate("o1", 1) == 1
    assert rate("gpt-4o", 2) == 2
    assert rate("gpt-4o", 3) == 3
    assert rate("gpt-4o-mini", 5) == 3
    assert rate("gpt-4o-mini", 6) == 4
    assert rate("gpt-4o-x", 6) == 5
    assert found.find("openai", "o1", datetime(2025, 12, 31, tzinfo=UTC)) is None


def test_a_model_is_a_text_and_not_an_expression() -> None:
    found = book(line(model="gpt-4.1"))
    now = datetime(2026, 6, 1, tzinfo=UTC)

    assert found.find("openai", "gpt-4.1", now) is not None
    assert found.find("openai", "gpt-4x1", now) is None


def test_many_models_do_not_fill_the_memory() -> None:
    found = book(line(model="*"))
    now = datetime(2026, 6, 1, tzinfo=UTC)

    for number in range(3000):
        assert found.find("openai", f"m-{number}", now) is not None

    assert len(found._matched) <= 1024


def test_an_absurd_cost_is_clamped_and_marked() -> None:
    dear = book(line(per_call="999999999999"))
    call = event("OpenAI JSON")

    record = UsageRecord(call, dear.charge(call), ORIGIN)

    assert record.charge.credits == INT4_MAX
    assert json.loads(record.metadata())["adjusted"] == ["credits"]


def test_a_bad_book_names_every_bad_line() -> None:
    with pytest.raises(BadPriceBook) as refused:
        parse(
            {
                "prices": [
                    line(input_per_1000=2.5),
                    line(output_per_1000="-1"),
                    {**line(), "from": "soon"},
                    line(service=""),
                    line(extra="1"),
                    line(model="*a*b*c*d*"),
                    "free",
                ]
            }
        )

    message = str(refused.value)
    assert "version" in message
    assert all(f"prices[{number}]" in message for number in range(7))


def test_a_book_needs_a_list_of_prices() -> None:
    with pytest.raises(BadPriceBook, match="prices: a list"):
        parse({"version": "v1"})


class TestBeforeTheFirstBook:
    def test_an_ai_call_waits_for_a_while_and_is_then_unpriced(self) -> None:
        clock = FakeClock()
        prices = PricesInForce(clock, wait_s=30)

        with pytest.raises(PricesPending):
            prices.charge(event("OpenAI JSON"))

        clock.advance(30)
        assert prices.charge(event("OpenAI JSON")).pricing is Pricing.UNPRICED

    def test_other_calls_do_not_wait(self) -> None:
        prices = PricesInForce(FakeClock(), wait_s=30)

        assert prices.charge(event("plain call")).pricing is Pricing.FREE
        assert prices.charge(event("usage headers")).pricing is Pricing.REPORTED

    def test_a_book_ends_the_wait_and_survives_a_bad_one(self) -> None:
        prices = PricesInForce(FakeClock(), wait_s=30)
        prices.accept({"version": "v1", "prices": [line()]})

        with pytest.raises(BadPriceBook):
            prices.accept({"version": "v2", "prices": None})

        assert prices.charge(event("OpenAI JSON")).version == "v1"


class TestRow:
    def test_metadata_is_the_platforms_shape(self) -> None:
        call = event("OpenAI JSON")

        record = UsageRecord(call, book(line()).charge(call), ORIGIN)

        assert json.loads(record.metadata(), parse_float=Decimal) == {
            "request": {
                "endpoint": "/api/mcp/openai",
                "method": "POST",
                "parameters": {},
            },
            "response": {
                "statusCode": 200,
                "responseTime": call.duration_ms,
                "size": 314,
            },
            "billing": {
                "ratePerToken": Decimal("0.003245967742"),
                "totalCost": Decimal("0.4025"),
                "currency": "credits",
            },
            "gateway": {"upstream": "127.0.0.1:3003", "firstByteTime": 1},
            "session": {"sessionId": "s1"},
            "provider": {"protocol": "openai_chat_completions"},
            "system": {"instanceId": "node-1", "region": "local", "version": "0.1.0"},
        }

    def test_a_denial_keeps_its_code(self) -> None:
        denied = event("denied by authz")

        record = UsageRecord(denied, NO_PRICES.charge(denied), ORIGIN)

        assert json.loads(record.metadata())["response"]["reason"] == "TOKEN_EXPIRED"

    def test_what_nobody_counted_is_null_and_its_total_zero(self) -> None:
        call = event("plain call")

        row = UsageRecord(call, NO_PRICES.charge(call), ORIGIN).row()

        named = dict(zip(COLUMNS, row, strict=True))
        assert named["tokens"] == 0
        assert named["input_tokens"] is None
        assert named["usage_source"] == "absent"
        assert named["pricing"] == "free"

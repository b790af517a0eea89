from control.documents import prices_document, ratelimit_document
from control.parse import parse
from ratelimit import rules
from usage_sink import prices

TEXT = """
version: 1
services: {core: {instances: ["127.0.0.1:1"]}}
routes:
- {id: a, path: /a, service: core, rate_limit: {requests: 30, per: hour}}
- {id: b, path: /b, service: core, rate_limit: none}
limits: {roles: {admin: unlimited, user: {requests: 60, per: minute},
  guest: {requests: 10, per: second}}}
prices:
- {service: openai, model: "gpt*", from: 2026-01-01, input_per_1000: "0.000001"}
"""


def test_limits_are_said_in_seconds_and_unlimited_as_null() -> None:
    assert ratelimit_document(parse(TEXT)) == {
        "roles": {
            "admin": None,
            "user": [{"requests": 60, "per_s": 60}],
            "guest": [{"requests": 10, "per_s": 1}],
        },
        "routes": {"a": {"cost": 1, "rules": [{"requests": 30, "per_s": 3600}]}},
    }


def test_prices_are_decimals_as_text() -> None:
    document = prices_document(parse(TEXT))

    assert document["prices"] == [
        {
            "service": "openai",
            "model": "gpt*",
            "from": "2026-01-01",
            "input_per_1000": "0.000001",
            "output_per_1000": "0",
            "per_call": "0",
        }
    ]


def test_a_price_list_without_a_label_is_named_by_its_content() -> None:
    first, again = prices_document(parse(TEXT)), prices_document(parse(TEXT))
    dearer = prices_document(parse(TEXT.replace("0.000001", "0.000002")))
    labelled = prices_document(parse(f"{TEXT}prices_version: spring\n"))

    assert first["version"] == again["version"] != dearer["version"]
    assert labelled["version"] == "spring"


def test_the_sidecars_take_what_control_says() -> None:
    config = parse(TEXT)

    assert rules.Rules.from_document(ratelimit_document(config)).routes
    assert prices.parse(prices_document(config)).version

import pytest

from control.values import Instance, UnknownVariable, instance, seconds, substitute


@pytest.mark.parametrize(
    ("text", "length"),
    [("0s", 0), ("250ms", 0.25), ("15s", 15), ("1.5m", 90), ("2h", 7200)],
)
def test_a_duration_is_a_number_with_its_unit(text: str, length: float) -> None:
    assert seconds(text) == length


@pytest.mark.parametrize("text", ["0.9ms", "0.001ms", "0.5ms"])
def test_what_envoy_would_cut_to_for_ever_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="at least 1ms"):
        seconds(text)


@pytest.mark.parametrize("text", ["", "15", "s", "-1s", "1e3s", "15 s", "9999h", "1d"])
def test_anything_else_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="give"):
        seconds(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:3002", Instance("127.0.0.1", 3002, is_ip=True)),
        ("[::1]:80", Instance("::1", 80, is_ip=True)),
        ("core.internal:80", Instance("core.internal", 80, is_ip=False)),
        ("localhost:65535", Instance("localhost", 65535, is_ip=False)),
    ],
)
def test_an_instance_is_an_address_or_a_name_with_a_port(
    text: str, expected: Instance
) -> None:
    assert instance(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "127.0.0.1",
        ":80",
        "a:0",
        "a:65536",
        "a:-1",
        "::1:80",
        "[127.0.0.1]:80",
        "300.1.1.1:80",
        "a b:80",
        "http://a:80",
        "a/b:80",
        "[name]:80",
    ],
)
def test_anything_else_is_no_instance(text: str) -> None:
    with pytest.raises(ValueError, match=r"give|write"):
        instance(text)


def test_a_variable_replaces_its_default() -> None:
    text = "${HUBGATE_UPSTREAM_A:-127.0.0.1:1}"

    assert substitute(text, {}) == "127.0.0.1:1"
    assert substitute(text, {"HUBGATE_UPSTREAM_A": ""}) == "127.0.0.1:1"
    assert substitute(text, {"HUBGATE_UPSTREAM_A": "b:2"}) == "b:2"


def test_a_variable_without_value_and_default_is_named() -> None:
    with pytest.raises(UnknownVariable, match="HUBGATE_UPSTREAM_A is not set"):
        substitute("${HUBGATE_UPSTREAM_A}", {})


def test_other_variables_of_the_environment_are_out_of_reach() -> None:
    text = "${HUBGATE_DATABASE_URL:-x}"

    assert substitute(text, {"HUBGATE_DATABASE_URL": "secret"}) == text

"""What Envoy sends by OTLP, read into attributes."""

from typing import Any

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from runtime.contracts.access_log import LOG_SEPARATOR
from tests.builders_ledger import a_request
from usage_sink import otlp


def read(request: Any) -> list[tuple[str, dict[str, str]]]:
    return list(otlp.entries(request.SerializeToString()))


def test_the_body_holds_the_attributes_that_the_batch_names() -> None:
    request = a_request(("1\x1f2", {"c": "3"}), ("4\x1f", {}), fields="a,b")

    assert read(request) == [
        ("node-1", {"a": "1", "b": "2", "c": "3"}),
        ("node-1", {"a": "4", "b": ""}),
    ]


def test_each_batch_has_its_own_names() -> None:
    request = a_request(("1\x1f2", {}), fields="a,b")
    request.MergeFrom(a_request(("1\x1f2", {}), fields="b,c"))

    assert [attributes for _, attributes in read(request)] == [
        {"a": "1", "b": "2"},
        {"b": "1", "c": "2"},
    ]


def test_without_names_a_record_has_its_attributes_alone() -> None:
    request = a_request(("text", {"a": "1"}))

    assert read(request) == [("node-1", {"a": "1"})]


@pytest.mark.parametrize("body", ["", "1", "1\x1f2\x1f3"])
def test_a_body_that_does_not_fit_its_names_is_no_request(body: str) -> None:
    ((_, attributes),) = read(a_request((body, {}), fields="id,b"))

    assert attributes["id"].endswith("texts for 2 names")
    assert attributes["body"] == body


@given(st.lists(st.text(st.characters(exclude_characters="\x1f", codec="utf-8"))))
def test_any_texts_come_back(texts: list[str]) -> None:
    names = [f"n{at}" for at in range(len(texts))] or ["n"]
    body = LOG_SEPARATOR.join(texts)
    ((_, attributes),) = read(a_request((body, {}), fields=",".join(names)))

    assert list(attributes.values()) == (texts or [""])


def test_fields_that_are_not_declared_are_passed_over() -> None:
    """A newer Envoy may send more; field 15 stands for what we do not know."""
    payload = a_request(("", {"k": "v"})).SerializeToString()

    assert list(otlp.entries(payload + b"\x7a\x03abc")) == [("node-1", {"k": "v"})]


def test_bytes_that_are_no_request_are_refused() -> None:
    with pytest.raises(DecodeError):
        list(otlp.entries(b"\x0a\xff"))

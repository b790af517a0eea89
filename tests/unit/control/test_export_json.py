"""JSON that Arrow makes is what Python would have made of each row."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control.export import EXPORTED, NAMES
from control.export_files import batch
from control.export_json import joined
from control.parameters import shown

AT = datetime(2026, 1, 31, 8, tzinfo=UTC)


def a_row(**changes: Any) -> dict[str, Any]:
    said = {
        "id": str(UUID(int=7)),
        "service": "openai",
        "tokens": 12,
        "metadata": '{"a": 1.10}',
        "created_at": AT,
        "billable": True,
    }
    return {**dict.fromkeys(EXPORTED), **said, **changes}


def by_hand(row: dict[str, Any]) -> str:
    """As Python writes it, with the document behind the others as it is."""
    values = dict(zip(NAMES, (row[name] for name in EXPORTED), strict=True))
    metadata = values.pop("metadata")
    text = json.dumps(values, ensure_ascii=False, default=shown)
    return f'{text[:-1]}, "metadata": {metadata}}}'


def told(rows: list[dict[str, Any]]) -> list[str]:
    # A line each: no character within a value ends one.
    return joined(batch(rows), "\n").decode().split("\n")


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="most of it unknown"),
        pytest.param({"id": None}, id="of a user who was erased"),
        pytest.param({"model": 'a"b\\c\n\t\x01é€😀\u2028\x7f'}, id="all to be escaped"),
        pytest.param({"model": ""}, id="empty, not unknown"),
        pytest.param({"created_at": AT + timedelta(microseconds=120)}, id="fractions"),
        pytest.param({"adjusted_credits": -(2**62)}, id="a large number"),
        pytest.param({"billable": False, "status": 404}, id="no"),
    ],
)
def test_a_row_is_as_python_writes_it(changes: dict[str, Any]) -> None:
    row = a_row(**changes)

    assert told([row]) == [by_hand(row)]


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1))
def test_any_texts_are_as_python_writes_them(texts: list[str]) -> None:
    rows = [a_row(user_id=text, model=texts[0]) for text in texts]

    assert told(rows) == list(map(by_hand, rows))


def test_many_rows_are_made_in_slices_and_none_is_missed() -> None:
    rows = [a_row(tokens=number, user_id=f"u-{number}") for number in range(2_001)]

    assert told(rows) == list(map(by_hand, rows))

"""What callers chose is text in a spreadsheet, and comes out as it went in."""

import csv
import io
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from control.export import EXPORTED, Format, Sums
from control.export_files import batch, encoder

HARMFUL = "=+-@\t\r\n＝＋－＠"  # noqa: RUF001 - those very characters
ID = "00000000-0000-0000-0000-000000000007"
TEXTS = ("userId", "service", "model", "route", "method", "role", "node")


def a_row(**changes: Any) -> dict[str, Any]:
    said = {"id": ID, "metadata": "{}", "tokens": 1}
    return {**dict.fromkeys(EXPORTED), **said, **changes}


def a_file(kind: Format, rows: list[dict[str, Any]]) -> bytes:
    file = encoder(kind)
    return file.begin() + file.add(batch(rows)) + file.end(Sums(), None)


def told(rows: list[dict[str, Any]]) -> list[dict[str, str]]:
    text = a_file(Format.CSV, rows).decode()
    return list(csv.DictReader(io.StringIO(text, newline="")))


def restored(cell: str) -> str:
    """As docs/usage-api.md says it."""
    return re.sub(f"^'('*[{re.escape(HARMFUL)}])", r"\1", cell)


@pytest.mark.parametrize("first", HARMFUL)
def test_no_text_begins_as_a_formula(first: str) -> None:
    text = first + 'HYPERLINK("https://evil.example","x")'
    names = ("user_id", "service", "model", "route", "method", "role", "node")
    (row,) = told([a_row(**dict.fromkeys(names, text))])

    assert [row[name] for name in TEXTS] == [f"'{text}"] * len(TEXTS)


def test_numbers_below_zero_stay_numbers() -> None:
    (row,) = told([a_row(user_id="-5", adjusted_tokens=-5, adjusted_credits=-7)])

    assert (row["adjustedTokens"], row["adjustedCredits"]) == ("-5", "-7")
    assert row["userId"] == "'-5"


def test_other_text_is_as_it_is() -> None:
    texts = ["u-1", "'quoted'", "a=1", " =1", "", 'a"b', "gpt-4o"]

    assert [row["model"] for row in told([a_row(model=one) for one in texts])] == texts


def test_what_is_unknown_is_no_text() -> None:
    lines = a_file(Format.CSV, [a_row(user_id="=1"), a_row()]).splitlines()

    assert lines[1].startswith(f'"{ID}","\'=1",,'.encode())
    assert lines[2].startswith(f'"{ID}",,,'.encode())


@given(
    st.lists(
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
        | st.text("'=+-@\t\r\n＝a", max_size=4),  # noqa: RUF001
        min_size=1,
    )
)
def test_every_text_comes_out_as_it_went_in(texts: list[str]) -> None:
    cells = [row["userId"] for row in told([a_row(user_id=one) for one in texts])]

    assert [restored(cell) for cell in cells] == texts
    assert not [cell for cell in cells if cell.startswith(tuple(HARMFUL))]


def test_other_formats_have_the_very_text() -> None:
    rows = [a_row(user_id="=1+1", model="'=x")]
    table = parquet.read_table(io.BytesIO(a_file(Format.PARQUET, rows)))

    assert table["userId"].to_pylist() == ["=1+1"]
    assert table["model"].to_pylist() == ["'=x"]
    for kind in (Format.JSON, Format.NDJSON):
        assert b'"userId": "=1+1", ' in a_file(kind, rows)
        assert b'"model": "\'=x", ' in a_file(kind, rows)

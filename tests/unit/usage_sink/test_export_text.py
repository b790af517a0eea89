"""Files of `hubgate usage export` that a spreadsheet opens."""

import csv
import io
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from usage_sink import parquet
from usage_sink.export import Format, writer

AT = datetime(2026, 1, 31, tzinfo=UTC)


def a_row(**changes: Any) -> tuple[Any, ...]:
    row: dict[str, Any] = dict.fromkeys(parquet.SHOWN)
    said = {"id": UUID(int=7), "created_at": AT, "metadata": '{"a": 1}', "credits": 2}
    return tuple({**row, **said, **changes}.values())


def a_file(kind: Format, *rows: tuple[Any, ...]) -> str:
    target = io.BytesIO()
    text = io.TextIOWrapper(target, "utf-8", newline="", write_through=True)
    with writer(kind, target, text) as write:
        write(rows)
    return target.getvalue().decode()


def told(*rows: tuple[Any, ...]) -> list[dict[str, str]]:
    text = a_file(Format.CSV, *rows)
    return list(csv.DictReader(io.StringIO(text, newline="")))


@pytest.mark.parametrize("text", ["=1", "+1", "-1", "@SUM(1)", "\t=1", "\r=1", "'=1"])
def test_no_text_is_a_formula(text: str) -> None:
    (row,) = told(a_row(user_id=text, model=text, credits=-5))

    assert (row["user_id"], row["model"]) == (f"'{text}", f"'{text}")
    assert row["credits"] == "-5"


def test_text_is_in_quotes_and_nothing_else_is() -> None:
    file = a_file(Format.CSV, a_row(user_id='a;=1,"b"\r\n', billable=True))

    assert '"a;=1,""b""\r\n"' in file
    assert ",2," in file
    assert file.endswith(",True\r\n")
    assert ",," in file
    assert told(a_row(user_id='a;=1,"b"\r\n'))[0]["user_id"] == 'a;=1,"b"\r\n'


def test_lines_of_json_have_the_very_text() -> None:
    assert '"user_id": "=1", ' in a_file(Format.NDJSON, a_row(user_id="=1"))

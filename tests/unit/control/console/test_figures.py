from zoneinfo import ZoneInfo

import pytest

from control.console import figures

BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (0, "0"),
        (7, "7"),
        (0.25, "0.25"),
        (999, "999"),
        (1234, "1.23k"),
        (999_999, "1M"),
        (1_500_000, "1.5M"),
        (2e9, "2G"),
    ],
)
def test_a_compact_figure_has_three_digits_and_a_power(
    value: float | None, text: str
) -> None:
    assert figures.compact(value) == text


def test_figures_are_said_as_people_read_them() -> None:
    assert figures.whole(1234567) == "1,234,567"
    assert figures.percent(0.0123) == "1.23 %"
    assert [figures.change(one) for one in (12.5, -3.0)] == ["+12.5 %", "-3.0 %"]
    assert figures.milliseconds(12.4) == "12 ms"
    assert figures.milliseconds(1234) == "1.23 s"


def test_what_is_not_known_is_no_figure() -> None:
    shown = (
        *(figures.compact(None), figures.whole(None), figures.percent(None)),
        *(figures.change(None), figures.milliseconds(None)),
    )
    assert set(shown) == {figures.NONE}


def test_times_are_those_of_the_reader() -> None:
    text = "2026-03-29T01:30:00Z"

    assert figures.instant(text, BERLIN) == "29 Mar 2026 03:30:00"
    assert figures.instant(None, BERLIN) == "-"
    assert figures.period(text, "hour", BERLIN, is_short=True) == "03:30"
    assert figures.period(text, "month", BERLIN, is_short=False) == "March 2026"

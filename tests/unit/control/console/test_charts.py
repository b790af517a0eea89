from xml.etree.ElementTree import Element, fromstring

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control.console.charts import Chart, Series, bar, columns, line, scale

TITLE = "Credits by day"


def a_chart(*series: Series, labels: tuple[str, ...] = ("Mon", "Tue")) -> Chart:
    return Chart(
        key="c", title=TITLE, description="Two days", labels=labels, series=series
    )


def shapes(svg: str, kind: str) -> list[Element]:
    return [one for one in fromstring(svg).iter() if one.tag == kind]  # noqa: S314 - our own


def test_a_picture_is_named_and_described_for_who_cannot_see_it() -> None:
    root = fromstring(columns(a_chart(Series("a", (1, 2))), 500))  # noqa: S314 - our own

    ids = root.attrib["aria-labelledby"].split()
    named = {one.attrib.get("id"): one.text for one in root}
    assert root.attrib["role"] == "img"
    assert [named[one] for one in ids] == [TITLE, "Two days"]


def test_columns_are_as_high_as_their_values_and_stand_on_each_other() -> None:
    svg = columns(a_chart(Series("a", (10, 20)), Series("b", (10, 0))), 500)

    a0, b0, a1 = sorted(shapes(svg, "rect"), key=lambda one: float(one.attrib["x"]))
    assert float(a1.attrib["height"]) == pytest.approx(2 * float(a0.attrib["height"]))
    assert float(b0.attrib["y"]) + float(b0.attrib["height"]) == pytest.approx(
        float(a0.attrib["y"]), abs=0.02
    )
    assert float(b0.attrib["y"]) == pytest.approx(float(a1.attrib["y"]), abs=0.02)


@given(
    st.lists(st.floats(0, 1e15), min_size=1, max_size=100),
    st.integers(0, 5000),
)
def test_nothing_is_drawn_outside_of_the_picture(
    values: list[float], width: int
) -> None:
    labels = tuple(str(n) for n in range(len(values)))
    chart = a_chart(Series("a", tuple(values)), labels=labels)

    for svg in (columns(chart, width), line(chart, width)):
        root = fromstring(svg)  # noqa: S314 - our own
        _, _, wide, high = map(float, root.attrib["viewBox"].split())
        for one in root.iter("rect"):
            x, y, w, h = (float(one.attrib[n]) for n in ("x", "y", "width", "height"))
            assert -0.1 <= x <= x + w <= wide + 0.1
            assert -0.1 <= y <= y + h <= high + 0.6


@given(st.floats(1e-6, 1e15))
def test_a_scale_reaches_the_largest_value_in_few_round_steps(most: float) -> None:
    values = scale(most)

    assert values[0] == 0
    assert values[-1] >= most * (1 - 1e-8)
    assert 2 <= len(values) <= 6
    assert values[-1] <= most * 2.6


def test_an_empty_picture_has_a_scale_and_no_columns() -> None:
    svg = columns(a_chart(labels=()), 500)

    assert shapes(svg, "rect") == []
    assert scale(0) == [0.0, 1.0]


def test_text_of_others_is_text() -> None:
    hostile = "<script>alert(1)</script>"
    svg = columns(a_chart(Series(hostile, (1, 2)), labels=(hostile, "b")), 500)

    assert "<script" not in svg
    assert hostile in [one.text for one in shapes(svg, "text")]


def test_the_rest_has_its_own_colour() -> None:
    rest = Series("other", (1, 1), is_rest=True)
    chart = a_chart(*(Series(str(n), (1, 1)) for n in range(7)), rest)

    assert chart.colour(0) == "c0"
    assert chart.colour(6) == "c5"
    assert chart.colour(7) == "rest"


@pytest.mark.parametrize(("share", "filled"), [(0, 0), (0.5, 50), (1, 100), (7, 100)])
def test_a_bar_is_its_share_of_the_track_and_never_more(
    share: float, filled: float
) -> None:
    track, part = shapes(bar(share), "rect")

    assert float(track.attrib["width"]) == 100
    assert float(part.attrib["width"]) == filled

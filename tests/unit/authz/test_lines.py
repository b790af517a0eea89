import json

from hypothesis import given
from hypothesis import strategies as st

from authz.lines import known, quoted_or_null, template

texts = st.none() | st.text()


@given(st.lists(texts, min_size=2, max_size=2), texts)
def test_a_line_says_what_it_was_given_in_one_line(
    values: list[str | None], same: str | None
) -> None:
    form = template(("a", "100 %"), {"%s": same})
    line = form % (quoted_or_null(values[0]), known(values[1]))

    assert json.loads(line) == {"%s": same, "a": values[0], "100 %": values[1]}
    assert len(line.splitlines()) == 1

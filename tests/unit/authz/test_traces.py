"""Which trace an upstream is told of."""

import re

import pytest

from authz.traces import begun

VALID = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
REQUEST = "6fd8e2a4-4f5b-4c1e-9d2a-0b1c2d3e4f50"


def test_a_valid_trace_is_kept() -> None:
    assert begun(VALID, REQUEST) is None


def test_a_new_trace_has_the_id_of_its_request() -> None:
    found = "00-6fd8e2a44f5b4c1e9d2a0b1c2d3e4f50-9d2a0b1c2d3e4f50-00"

    assert begun(None, REQUEST) == begun("evil", REQUEST) == found
    assert begun(f"{VALID},{VALID}", REQUEST) == begun(f"{VALID}\n", REQUEST) == found


@pytest.mark.parametrize("request_id", [None, "", "mine", REQUEST[:18] + "0" * 18])
def test_a_request_without_a_usable_id_has_a_trace_of_its_own(
    request_id: str | None,
) -> None:
    first, second = begun(None, request_id), begun(None, request_id)

    assert first is not None
    assert re.fullmatch("00-[0-9a-f]{32}-[0-9a-f]{16}-00", first)
    assert first != second

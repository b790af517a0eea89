from typing import Any

from envoy.service.auth.v3 import external_auth_pb2 as pb
from hypothesis import example, given
from hypothesis import strategies as st

from authz import forms


def _told(text: str) -> Any:
    """Its text is followed by another member."""
    response = pb.CheckResponse()
    option = response.ok_response.headers.add(append_action=2)
    option.header.key, option.header.value = "100 %", text
    return response


@given(st.text(max_size=400))
@example("x" * 127)
@example("")
@example("%b\x7f" * 40)
def test_a_filled_form_is_what_the_library_would_have_written(text: str) -> None:
    raw = text.encode("utf-8", "replace")
    form = forms.form(_told, len(raw))

    assert pb.CheckResponse.FromString(form % raw) == _told(raw.decode())


def test_a_message_without_a_place_stays_as_it_is() -> None:
    message = _told("50 %")

    assert forms.fixed(message) % () == message.SerializeToString()

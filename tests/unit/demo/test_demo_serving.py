"""Where a demo service listens."""

import pytest

from local.demo.serving import bind
from runtime.settings import Address


def test_a_taken_port_is_an_error_at_once() -> None:
    with bind(Address(host="127.0.0.1", port=0)) as first:
        first.listen()
        taken = Address(host="127.0.0.1", port=first.getsockname()[1])
        with pytest.raises(OSError, match="in use"):
            bind(taken)

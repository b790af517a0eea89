"""Whole `hubgate up --demo` on free ports, as a newcomer starts it."""

from collections.abc import Iterator

import pytest

from tests.e2e.key_server import KeyServer, serving
from tests.e2e.recorder import Recorder, probe_route, recording
from tests.e2e.stack import Stack, eventually, running_stack

#: Of a stack to be itself again, on a machine that is busy.
HEALTHY_WITHIN_S = 60.0


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Shared by tests that leave it as they found it; users are a test's own."""
    with running_stack(tmp_path_factory.mktemp("stack")) as one:
        yield one


@pytest.fixture(scope="session")
def keys() -> Iterator[KeyServer]:
    """Asked by the stack that tests may break."""
    with serving(["rsa"]) as one:
        yield one


@pytest.fixture(scope="session")
def broken_before(
    tmp_path_factory: pytest.TempPathFactory, keys: KeyServer
) -> Iterator[Stack]:
    env = {
        "HUBGATE_JWKS_URL": f"http://127.0.0.1:{keys.port}/jwks",
        "HUBGATE_JWT_LEEWAY_S": "0",
        "HUBGATE_UNSETTLED_AFTER_S": "2",
    }
    with running_stack(tmp_path_factory.mktemp("own"), env=env) as one:
        yield one


@pytest.fixture
def own(broken_before: Stack) -> Stack:
    """A stack that tests may break; healthy again, whatever the one before did."""
    eventually(broken_before.is_healthy, HEALTHY_WITHIN_S)
    return broken_before


@pytest.fixture(scope="module")
def upstream() -> Iterator[Recorder]:
    """What reaches an upstream; a module's own."""
    with recording() as one:
        yield one


@pytest.fixture(scope="module")
def prefix(stack: Stack, upstream: Recorder) -> Iterator[str]:
    """Requests below it go to `upstream`, of any authenticated caller, unlimited."""
    with probe_route(stack, upstream) as one:
        yield one

"""A whole `hubgate up --demo` on free ports, as a newcomer starts it."""

from collections.abc import Iterator

import pytest

from tests.e2e.recorder import Recorder, probe_route, recording
from tests.e2e.stack import Stack, running_stack


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Shared by tests that leave it as they found it; users are a test's own."""
    with running_stack(tmp_path_factory.mktemp("stack")) as one:
        yield one


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

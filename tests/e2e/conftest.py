"""A whole `hubgate up --demo` on free ports, as a newcomer starts it."""

from collections.abc import Iterator

import pytest

from tests.e2e.stack import Stack, running_stack


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Shared by tests that leave it as they found it; users are a test's own."""
    with running_stack(tmp_path_factory.mktemp("stack")) as one:
        yield one

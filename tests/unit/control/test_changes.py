from typing import Any

import pytest

from control import edits
from control.changes import FILE_AUTHOR, Applied, NotReady, Rejected
from control.model import GatewayConfig
from control.parse import ConfigRefused
from control.store import Status, StoreUnavailable
from control.xds.cache import Published
from control.xds.snapshot import ResourceType
from control.xds.subscription import Refusal
from tests.builders_control import Parts, a_config

ROUTE = {"id": "a", "path": "/a", "service": "core"}


@pytest.fixture
def parts() -> Parts:
    return Parts()


def put(route: dict[str, Any]) -> Any:
    return lambda document: edits.put_route(document, route)


async def test_the_first_configuration_is_the_files(parts: Parts) -> None:
    await parts.changes.start(a_config(ROUTE))

    assert parts.changes.revision.author == FILE_AUTHOR
    assert [one.id for one in parts.changes.config.routes] == ["a"]


async def test_a_restart_keeps_what_was_changed_over_the_api(parts: Parts) -> None:
    file = a_config()
    await parts.changes.start(file)
    await parts.changes.apply(put(ROUTE), "admin", "")
    again = parts.new_changes()
    await again.start(file)

    assert again.revision.rev == 2
    assert [one.id for one in again.config.routes] == ["a"]


async def test_an_edited_file_counts_at_the_next_start(parts: Parts) -> None:
    await parts.changes.start(a_config())
    await parts.changes.apply(put(ROUTE), "admin", "")
    again = parts.new_changes()
    await again.start(a_config({**ROUTE, "id": "b"}))

    assert [one.id for one in again.config.routes] == ["b"]


async def test_a_file_that_was_put_by_hand_is_not_taken_again_at_the_next_start(
    parts: Parts,
) -> None:
    await parts.changes.start(a_config())
    file = a_config({"id": "b", "path": "/b"})
    await parts.changes.apply(lambda _: file.document(), "admin", "")
    await parts.changes.apply(put(ROUTE), "admin", "")
    again = parts.new_changes()
    await again.start(file)

    assert [one.id for one in again.config.routes] == ["b", "a"]


async def test_a_file_that_is_again_what_it_was_before_counts(parts: Parts) -> None:
    for one in (a_config(), a_config(ROUTE)):
        await parts.new_changes().start(one)
    again = parts.new_changes()
    await again.start(a_config())

    assert again.config.routes == ()


@pytest.mark.parametrize("stored", [None, a_config()], ids=["first", "edited"])
async def test_a_file_whose_taking_was_cut_short_is_taken_at_the_next_start(
    parts: Parts, stored: GatewayConfig | None
) -> None:
    if stored is not None:
        await parts.changes.start(stored)
    file = a_config(ROUTE)
    await parts.store.add(file.document(), FILE_AUTHOR, "killed before it was settled")
    again = parts.new_changes()
    await again.start(file)

    assert [one.id for one in again.config.routes] == ["a"]


async def test_a_later_change_is_not_undone_by_a_file_whose_taking_was_cut_short(
    parts: Parts,
) -> None:
    file = a_config()
    await parts.changes.start(a_config(ROUTE))
    await parts.store.add(file.document(), FILE_AUTHOR, "killed before it was settled")
    await parts.changes.apply(put({**ROUTE, "path": "/b"}), "admin", "")
    again = parts.new_changes()
    await again.start(file)

    assert [one.path for one in again.config.routes] == ["/b"]


async def store_refused(parts: Parts) -> None:
    """What an earlier version took and this one refuses."""
    document = {**a_config().document(), "a-field-of-earlier": 1}
    stored = await parts.store.add(document, "admin", "")
    await parts.store.settle(stored.rev, Status.ACTIVE)


async def test_a_stored_revision_that_is_refused_is_told_with_the_way_out(
    parts: Parts,
) -> None:
    file = a_config()
    await parts.changes.start(file)
    await store_refused(parts)

    with pytest.raises(ConfigRefused, match=r"(?s)a-field-of-earlier.*edit the"):
        await parts.new_changes().start(file)


async def test_an_edited_file_replaces_a_stored_revision_that_is_refused(
    parts: Parts,
) -> None:
    await parts.changes.start(a_config())
    await store_refused(parts)
    again = parts.new_changes()
    await again.start(a_config(ROUTE))

    assert [one.id for one in again.config.routes] == ["a"]


async def test_a_file_that_envoy_refuses_leaves_the_stored_in_force(
    parts: Parts,
) -> None:
    await parts.changes.start(a_config())
    parts.verdict.refusal = "no"
    again = parts.new_changes()
    await again.start(a_config(ROUTE))

    assert again.revision.rev == 1


async def test_a_first_file_that_envoy_refuses_is_an_error(parts: Parts) -> None:
    parts.verdict.refusal = "bad regex"

    with pytest.raises(ConfigRefused, match="bad regex"):
        await parts.changes.start(a_config())


async def test_nothing_can_be_changed_before_the_start(parts: Parts) -> None:
    with pytest.raises(NotReady):
        await parts.changes.apply(put(ROUTE), "admin", "")


async def test_a_change_is_kept_handed_out_and_in_force(parts: Parts) -> None:
    await parts.changes.start(a_config())
    outcome = await parts.changes.apply(put(ROUTE), "admin", "put a")
    active = await parts.store.active()

    assert isinstance(outcome, Applied)
    assert active is not None
    assert (active.rev, active.comment, active.status) == (2, "put a", Status.ACTIVE)
    assert parts.rules.published[-1] == parts.changes.config
    assert parts.metrics.value("hubgate_config_revision") == 2


async def test_what_validation_refuses_is_not_even_kept(parts: Parts) -> None:
    await parts.changes.start(a_config())
    parts.verdict.refusal = "bad regex"
    outcome = await parts.changes.apply(put(ROUTE), "admin", "")

    assert outcome == Rejected("bad regex")
    assert await parts.store.latest_by("admin") is None


async def test_what_the_model_refuses_changes_nothing(parts: Parts) -> None:
    await parts.changes.start(a_config())

    with pytest.raises(ConfigRefused):
        await parts.changes.apply(put({**ROUTE, "service": "x"}), "admin", "")
    assert parts.changes.revision.rev == 1


async def test_what_a_running_envoy_refuses_is_rejected_and_undone(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    await parts.changes.start(a_config())

    async def refuse(*_: object) -> Published | Refusal:
        return Refusal("n", ResourceType.ROUTES, "v", "unknown filter")

    monkeypatch.setattr(parts.snapshots, "publish", refuse)
    outcome = await parts.changes.apply(put(ROUTE), "admin", "")
    kept = await parts.store.latest_by("admin")

    assert outcome == Rejected("unknown filter", 2)
    assert kept is not None
    assert (kept.status, kept.reason) == (Status.REJECTED, "unknown filter")
    assert parts.changes.revision.rev == 1
    assert parts.rules.published[-1].routes == ()


async def test_without_the_database_nothing_changes(parts: Parts) -> None:
    await parts.changes.start(a_config())
    before = parts.snapshots.target
    parts.store.is_available = False

    with pytest.raises(StoreUnavailable):
        await parts.changes.apply(put(ROUTE), "admin", "")
    assert parts.snapshots.target == before


async def test_a_change_that_can_not_be_kept_is_undone(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    await parts.changes.start(a_config())
    before = parts.snapshots.target

    async def lose(*_: object) -> None:
        raise StoreUnavailable

    monkeypatch.setattr(parts.store, "settle", lose)
    with pytest.raises(StoreUnavailable):
        await parts.changes.apply(put(ROUTE), "admin", "")

    assert parts.snapshots.target == before
    assert parts.rules.published[-1].routes == ()
    assert parts.changes.revision.rev == 1


async def test_a_variable_that_is_missing_is_told_as_a_problem(parts: Parts) -> None:
    service = {"instances": ["${HUBGATE_UPSTREAM_X}"]}
    await parts.changes.start(a_config())

    with pytest.raises(ConfigRefused, match="HUBGATE_UPSTREAM_X"):
        await parts.changes.apply(
            lambda document: edits.put_service(document, "x", service), "admin", ""
        )

"""Which instance gets a request, and what becomes of one that dies."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from control.changes import Applied, Rejected
from control.following import Registry
from control.registry import MemoryRegistryStore, Registration
from runtime.clock import SystemClock
from tests.integration.control.envoy_bench import Bench, a_bench, until
from tests.integration.control.instances import Instance, Mood, instances

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]

CHECKED = {"path": "/check", "interval": "100ms", "timeout": "500ms"}


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def bench(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bench]:
    async with a_bench(tmp_path_factory.mktemp("envoy")) as bench:
        yield bench


async def serve(
    bench: Bench, name: str, addresses: list[str], **service: Any
) -> Applied | Rejected:
    """A service of its own under a path of its own."""

    def edit(document: dict[str, Any]) -> dict[str, Any]:
        declared = {"instances": addresses, **service}
        return {**document, "services": {**document["services"], name: declared}}

    outcome = await bench.changes.apply(edit, "test", "")
    await bench.add(id=name, prefix=f"/{name}", service=name)
    return outcome


async def ask(
    bench: Bench, path: str, times: int = 1, method: str = "GET"
) -> list[Any]:
    return [await bench.client.request(method, path) for _ in range(times)]


async def is_passed_by(bench: Bench, path: str, instance: Instance) -> bool:
    """Envoy's workers learn of an instance's health after its statistics do."""
    before = len(instance.methods)
    await ask(bench, path, 10)
    return len(instance.methods) == before


@pytest.mark.alone
async def test_an_instance_that_registers_is_served_within_a_second(
    bench: Bench,
) -> None:
    clock = SystemClock()
    registry = Registry(
        MemoryRegistryStore(), bench.changes, clock, bench.ports.metrics
    )
    await serve(bench, "registered", [])
    (nobody,) = await ask(bench, "/registered")

    async with instances(2) as (one, two):
        began = clock.monotonic()
        for each in (one, two):
            mine = Registration("registered", f"i{each.port}", each.address, 60)
            await registry.register(mine)
        found = await ask(bench, "/registered", 20)
        added_s = clock.monotonic() - began
        await registry.remove("registered", f"i{one.port}")
        left = await ask(bench, "/registered", 20)

    assert (nobody.status_code, nobody.json()["code"]) == (503, "UPSTREAM_UNAVAILABLE")
    assert {answer.text for answer in found} == {str(one.port), str(two.port)}
    assert added_s < 1.0
    assert {answer.text for answer in left} == {str(two.port)}


async def test_a_change_of_the_configuration_keeps_who_registered(bench: Bench) -> None:
    registry = Registry(
        MemoryRegistryStore(), bench.changes, SystemClock(), bench.ports.metrics
    )
    await serve(bench, "kept", [])
    async with instances(1) as (one,):
        await registry.register(Registration("kept", "one", one.address, 60))
        await bench.add(id="unrelated", path="/unrelated")
        (answer,) = await ask(bench, "/kept")

    assert answer.text == str(one.port)


async def test_an_instance_that_dies_costs_no_client_an_error(bench: Bench) -> None:
    async with instances(2) as (one, two):
        await serve(bench, "dying", [one.address, two.address])
        answers: list[Any] = []

        async def load() -> None:
            answers.extend(await ask(bench, "/dying", 100))

        loading = [asyncio.create_task(load()) for _ in range(4)]

        async def is_busy() -> bool:
            return len(one.methods) > 20

        await until(is_busy)
        await one.die()
        await asyncio.gather(*loading)

    assert {answer.status_code for answer in answers} == {200}
    assert len(two.methods) > 200


async def test_what_may_do_harm_twice_is_sent_once(bench: Bench) -> None:
    async with instances(2) as (one, two):
        await serve(bench, "rude", [one.address, two.address])
        one.mood = two.mood = Mood.RUDE
        (post,) = await ask(bench, "/rude", method="POST")
        posts = len(one.methods) + len(two.methods)
        (get,) = await ask(bench, "/rude")
        gets = len(one.methods) + len(two.methods) - posts

    assert (post.status_code, post.json()["code"]) == (503, "UPSTREAM_UNAVAILABLE")
    assert get.status_code == 503
    assert (posts, gets) == (1, 3)


async def test_a_post_reaches_an_instance_when_the_other_refuses(bench: Bench) -> None:
    async with instances(2) as (one, two):
        await serve(bench, "refusing", [one.address, two.address])
        await one.die()
        answers = await ask(bench, "/refusing", 20, "POST")

    assert {answer.status_code for answer in answers} == {200}
    assert len(two.methods) == 20


async def test_a_sick_instance_gets_nothing_until_it_is_well(bench: Bench) -> None:
    async with instances(2) as (one, two):
        await serve(bench, "checked", [one.address, two.address], health_check=CHECKED)

        async def are_both_in() -> bool:
            return await bench.stat("cluster.checked.membership_healthy") == 2

        async def is_one_out() -> bool:
            return await bench.stat("cluster.checked.membership_healthy") == 1

        await until(are_both_in)
        one.mood = Mood.SICK
        await until(is_one_out)
        await until(lambda: is_passed_by(bench, "/checked", one))
        answers = await ask(bench, "/checked", 20)
        one.mood = Mood.WELL
        one.methods.clear()

        async def is_asked_again() -> bool:
            await ask(bench, "/checked")
            return bool(one.methods)

        await until(is_asked_again)

    assert {answer.text for answer in answers} == {str(two.port)}


async def test_a_failing_instance_is_ejected(bench: Bench) -> None:
    ejection = {"failures": 3, "ejected_for": "1m"}
    async with instances(2) as (one, two):
        await serve(bench, "failing", [one.address, two.address], ejection=ejection)
        one.mood = Mood.FAILING
        first: list[Any] = []

        async def is_ejected() -> bool:
            first.extend(await ask(bench, "/failing"))
            return await bench.stat("failing.outlier_detection.ejections_active") == 1

        await until(is_ejected)
        await until(lambda: is_passed_by(bench, "/failing", one))
        before = len(one.methods)
        later = await ask(bench, "/failing", 20)

    assert {answer.status_code for answer in (*first, *later)} == {200}
    assert before >= 3
    assert len(one.methods) == before


@pytest.mark.parametrize(
    "terms", [{"health_check": CHECKED}, {"connect_timeout": "2s"}, {"ejection": None}]
)
async def test_new_terms_of_a_service_in_use_are_in_force_when_answered(
    bench: Bench, terms: dict[str, Any]
) -> None:
    name = f"in-use-{next(iter(terms))}"
    async with instances(1) as (one,):
        await serve(bench, name, [one.address])
        outcome = await serve(bench, name, [one.address], **terms)
        warming = await bench.stat("cluster_manager.warming_clusters")

    assert isinstance(outcome, Applied)
    assert outcome.published.waiting_for == ()
    assert warming == 0


async def test_when_all_are_sick_none_is_asked(bench: Bench) -> None:
    async with instances(1) as (one,):
        await serve(bench, "panic", [one.address], health_check=CHECKED)

        async def is_in() -> bool:
            return await bench.stat("cluster.panic.membership_healthy") == 1

        async def is_refused() -> bool:
            (answer,) = await ask(bench, "/panic")
            return bool(answer.status_code == 503)

        await until(is_in)
        one.mood = Mood.SICK
        await until(is_refused)
        one.methods.clear()
        (answer,) = await ask(bench, "/panic")

    assert (answer.status_code, answer.json()["code"]) == (503, "UPSTREAM_UNAVAILABLE")
    assert one.methods == []


async def test_a_removed_instance_is_gone_although_it_is_healthy(bench: Bench) -> None:
    async with instances(2) as (one, two):
        both = [one.address, two.address]
        await serve(bench, "leaving", both, health_check=CHECKED)

        async def are_both_in() -> bool:
            return await bench.stat("cluster.leaving.membership_healthy") == 2

        await until(are_both_in)
        await serve(bench, "leaving", [two.address], health_check=CHECKED)
        answers = await ask(bench, "/leaving", 20)

    assert {answer.text for answer in answers} == {str(two.port)}


async def test_more_than_the_breaker_takes_is_refused_at_once(bench: Bench) -> None:
    breaker = {"connections": 1, "pending": 1, "requests": 1}
    document = bench.changes.revision.document
    up = document["services"]["up"]["instances"]
    await serve(bench, "narrow", up, breaker=breaker)
    await bench.add(
        id="narrow",
        path="/narrow",
        prefix_rewrite="/held",
        service="narrow",
        timeout="0s",
    )
    async with bench.client.stream("GET", "/narrow") as held:
        waiting = asyncio.create_task(bench.client.get("/narrow"))

        async def is_waiting() -> bool:
            return await bench.stat("cluster.narrow.upstream_rq_pending_active") == 1

        await until(is_waiting)
        (refused,) = await ask(bench, "/narrow")
        bench.upstream.release.set()
        await waiting
        await held.aread()

    assert (refused.status_code, refused.json()["code"]) == (
        503,
        "UPSTREAM_UNAVAILABLE",
    )

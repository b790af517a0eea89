from control.xds.snapshot import ResourceType, Snapshot
from control.xds.subscription import NodeStream, Refusal, Request, Response

CLUSTER, ENDPOINTS = ResourceType.CLUSTER, ResourceType.ENDPOINTS
LISTENER, ROUTES = ResourceType.LISTENER, ResourceType.ROUTES


def a_snapshot(
    routes: bytes = b"r1", cluster: bytes = b"cluster a", **endpoints: bytes
) -> Snapshot:
    return Snapshot(
        {
            CLUSTER: {"a": cluster},
            ENDPOINTS: endpoints or {"a": b"a1"},
            LISTENER: {"gateway": b"listener"},
            ROUTES: {"gateway": routes},
        }
    )


NAMES = {
    CLUSTER: frozenset[str](),
    ENDPOINTS: frozenset({"a"}),
    LISTENER: frozenset[str](),
    ROUTES: frozenset({"gateway"}),
}


def ask(stream: NodeStream, *kinds: ResourceType) -> None:
    for kind in kinds:
        stream.receive(Request(kind, NAMES[kind]))


def acknowledge(stream: NodeStream, *responses: Response) -> None:
    for one in responses:
        stream.receive(Request(one.kind, NAMES[one.kind], one.nonce))


def refuse(stream: NodeStream, response: Response) -> Refusal | None:
    request = Request(response.kind, NAMES[response.kind], response.nonce, "bad regex")
    return stream.receive(request)


def a_stream_with(snapshot: Snapshot) -> NodeStream:
    stream = NodeStream("n")
    ask(stream, *ResourceType)
    acknowledge(stream, *stream.due(snapshot))
    return stream


def test_nothing_is_sent_that_was_not_asked_for() -> None:
    assert NodeStream("n").due(a_snapshot()) == []


def test_what_is_asked_for_is_sent_once() -> None:
    stream, snapshot = NodeStream("n"), a_snapshot()
    ask(stream, CLUSTER)
    (response,) = stream.due(snapshot)

    assert response.resources == (b"cluster a",)
    assert response.version == snapshot.versions[CLUSTER]
    assert stream.due(snapshot) == []


def test_types_are_sent_in_the_order_that_envoy_needs() -> None:
    stream = NodeStream("n")
    ask(stream, *reversed(ResourceType))

    assert [one.kind for one in stream.due(a_snapshot())] == list(ResourceType)


def test_a_configuration_is_taken_when_every_type_is_acknowledged() -> None:
    stream, snapshot = NodeStream("n"), a_snapshot()
    ask(stream, *ResourceType)
    responses = stream.due(snapshot)
    acknowledge(stream, *responses[:-1])
    before = stream.has_taken(snapshot)
    acknowledge(stream, responses[-1])

    assert (before, stream.has_taken(snapshot)) == (False, True)


def test_a_type_without_resources_need_not_be_asked_for() -> None:
    stream = NodeStream("n")

    assert stream.has_taken(Snapshot())
    assert not stream.has_taken(a_snapshot())


def test_a_cluster_that_changed_is_followed_by_its_addresses() -> None:
    """Until Envoy has them it uses the cluster as it was."""
    stream, changed = a_stream_with(a_snapshot()), a_snapshot(cluster=b"cluster b")
    cluster, addresses = stream.due(changed)
    acknowledge(stream, cluster)
    before = stream.has_taken(changed)
    acknowledge(stream, addresses)

    assert (cluster.kind, addresses.kind) == (CLUSTER, ENDPOINTS)
    assert addresses.resources == (b"a1",)
    assert (before, stream.has_taken(changed)) == (False, True)
    assert stream.due(changed) == []


def test_only_what_changed_is_sent_again() -> None:
    stream = a_stream_with(a_snapshot())
    (response,) = stream.due(a_snapshot(routes=b"r2"))

    assert (response.kind, response.resources) == (ROUTES, (b"r2",))


def test_a_refusal_carries_envoys_reason_and_is_no_acknowledgement() -> None:
    stream, new = a_stream_with(a_snapshot()), a_snapshot(routes=b"(")
    (response,) = stream.due(new)
    refusal = refuse(stream, response)

    assert refusal == Refusal("n", ROUTES, new.versions[ROUTES], "bad regex")
    assert stream.refusal_of(new) == refusal
    assert not stream.has_taken(new)


def test_what_was_refused_is_not_sent_again() -> None:
    stream, new = a_stream_with(a_snapshot()), a_snapshot(routes=b"(")
    (response,) = stream.due(new)
    refuse(stream, response)

    assert stream.due(new) == []


def test_after_a_refusal_the_last_good_version_is_sent_again() -> None:
    good = a_snapshot()
    stream, new = a_stream_with(good), a_snapshot(routes=b"(")
    (response,) = stream.due(new)
    refuse(stream, response)
    between = stream.has_taken(good)
    (restored,) = stream.due(good)
    acknowledge(stream, restored)

    assert restored.resources == (b"r1",)
    assert (between, stream.has_taken(good)) == (False, True)
    assert stream.refusal_of(good) is None


def test_an_answer_to_an_older_response_decides_nothing() -> None:
    stream = a_stream_with(a_snapshot())
    (second,) = stream.due(a_snapshot(routes=b"r2"))
    third = a_snapshot(routes=b"r3")
    stream.due(third)
    acknowledge(stream, second)

    assert not stream.has_taken(third)


def test_new_names_are_answered_though_the_version_is_the_same() -> None:
    snapshot = a_snapshot(a=b"a1", b=b"b1")
    stream = NodeStream("n")
    ask(stream, *ResourceType)
    responses = stream.due(snapshot)
    acknowledge(stream, *responses)
    nonce = responses[1].nonce
    stream.receive(Request(ENDPOINTS, frozenset({"a", "b"}), nonce))
    waiting = stream.has_taken(snapshot)
    (response,) = stream.due(snapshot)

    assert not waiting
    assert response.resources == (b"a1", b"b1")


def test_names_that_do_not_exist_are_left_out() -> None:
    stream = NodeStream("n")
    stream.receive(Request(ENDPOINTS, frozenset({"a", "gone"})))
    (response,) = stream.due(a_snapshot())

    assert response.resources == (b"a1",)

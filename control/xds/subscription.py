"""What one Envoy has been sent and has answered, state-of-the-world variant of xDS.

Rules (xDS protocol, "ACK/NACK and resource type instance version"):

1. A request without our latest nonce of that type is about an older answer: only the
   names it asks for count.
2. A request with our latest nonce and no error acknowledges; with an error it refuses,
   and Envoy keeps what it had. It may have taken a part all the same, so after a
   refusal the last good version must be sent again; a changed target does that.
3. A changed list of names must be answered even when the version is the same: Envoy
   waits for it before it uses a cluster.
4. What was refused is not sent again until the target changes: no loops.
5. Per stream, types are sent in the order of `ResourceType`.
6. Behind clusters their addresses are sent again, changed or not: a cluster that
   changed waits for them, and asks in words that any acknowledgement has.
"""

from dataclasses import dataclass, field

from control.xds.snapshot import ResourceType, Snapshot

_WILDCARD = frozenset({ResourceType.CLUSTER, ResourceType.LISTENER})


@dataclass(frozen=True, slots=True)
class Request:
    """The parts of a DiscoveryRequest that decide."""

    kind: ResourceType
    names: frozenset[str]
    nonce: str = ""
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Response:
    """What to send: `resources` are serialised messages."""

    kind: ResourceType
    version: str
    nonce: str
    resources: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Refusal:
    """An Envoy's NACK."""

    node: str
    kind: ResourceType
    version: str
    reason: str


@dataclass(slots=True)
class _Watch:
    names: frozenset[str]
    sent_names: frozenset[str] | None = None
    sent_version: str | None = None
    nonce: str = ""
    acked_version: str | None = None
    refused: Refusal | None = None


@dataclass(slots=True)
class NodeStream:
    """One ADS stream; `node` is known from its first request."""

    node: str
    _watches: dict[ResourceType, _Watch] = field(default_factory=dict)
    _sent: int = 0

    def receive(self, request: Request) -> Refusal | None:
        """Take a request into account; a Refusal when it is a NACK."""
        watch = self._watches.get(request.kind)
        if watch is None:
            self._watches[request.kind] = _Watch(request.names)
            return None
        watch.names = request.names
        if not request.nonce or request.nonce != watch.nonce:
            return None
        version = watch.sent_version or ""
        if request.error is None:
            watch.acked_version = version
            watch.refused = None
            return None
        watch.refused = Refusal(self.node, request.kind, version, request.error)
        return watch.refused

    def due(self, target: Snapshot) -> list[Response]:
        """Everything that must be sent now to bring this Envoy to `target`."""
        return [
            self._send(kind, watch, target)
            for kind in ResourceType
            if (watch := self._watches.get(kind)) is not None
            and (
                watch.sent_version != target.versions[kind]
                or watch.sent_names != watch.names
            )
        ]

    def has_taken(self, target: Snapshot) -> bool:
        """Whether this Envoy has acknowledged all of `target`."""
        return all(self._has_taken(kind, target) for kind in ResourceType)

    def refusal_of(self, target: Snapshot) -> Refusal | None:
        """The refusal of something that is in `target`."""
        for kind, watch in self._watches.items():
            refused = watch.refused
            if refused is not None and refused.version == target.versions[kind]:
                return refused
        return None

    def _has_taken(self, kind: ResourceType, target: Snapshot) -> bool:
        watch = self._watches.get(kind)
        if watch is None:
            # It asks only for what something refers to.
            return not target.of(kind)
        return (
            watch.acked_version == target.versions[kind]
            and watch.sent_version == watch.acked_version
            and watch.sent_names == watch.names
            and watch.refused is None
        )

    def _send(self, kind: ResourceType, watch: _Watch, target: Snapshot) -> Response:
        self._sent += 1
        if kind is ResourceType.CLUSTER:
            self._forget_addresses()
        watch.nonce = str(self._sent)
        watch.sent_version = target.versions[kind]
        watch.sent_names = watch.names
        available = target.of(kind)
        if kind in _WILDCARD:
            chosen = tuple(available.values())
        else:
            chosen = tuple(
                available[one] for one in sorted(watch.names & set(available))
            )
        return Response(kind, watch.sent_version, watch.nonce, chosen)

    def _forget_addresses(self) -> None:
        watch = self._watches.get(ResourceType.ENDPOINTS)
        if watch is not None:
            watch.sent_version = watch.acked_version = None

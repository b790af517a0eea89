"""Which lives of an Envoy are over: a later one of its node has been seen. Pure."""


class Lives:
    """Knows the present incarnation of each node; incarnations sort by age."""

    def __init__(self) -> None:
        self._present: dict[str, str] = {}
        self._first_seen: dict[str, float] = {}
        self._died: dict[tuple[str, str], float] = {}

    def observe(self, node: str, incarnation: str, now: float) -> bool:
        """This life was heard of at Unix time `now`; True: an earlier one is over."""
        present = self._present.get(node)
        if present is None:
            self._present[node] = incarnation
            self._first_seen[node] = now
            return False
        if incarnation <= present:
            return False
        self._died[node, present] = now
        self._present[node] = incarnation
        return True

    def over_since(self, node: str, incarnation: str) -> float | None:
        """Unix time at which it was known to be over; None: it lives."""
        present = self._present.get(node)
        if present is None or incarnation >= present:
            return None
        return self._died.get((node, incarnation), self._first_seen[node])

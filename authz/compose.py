"""Builds what decides, of settings and what the process shares between its parts."""

from dataclasses import dataclass

from redis.asyncio import Redis

from authz.audit import Audit
from authz.authorizer import Authorizer
from authz.journal import Journal
from authz.limits import Limiter
from authz.service import AuthzService
from authz.session_service import SessionService
from authz.sessions import Sessions
from authz.settings import AuthzSettings
from runtime.clock import SystemClock
from runtime.grpc_server import Method
from runtime.identity.blacklist_tracked import TrackedBlacklist
from runtime.identity.verdicts import Verdicts
from runtime.identity.verifier import Verifier
from runtime.lifecycle import Main
from runtime.metrics import Metrics


@dataclass(frozen=True, slots=True)
class Authz:
    """What a process serves, what it runs beside that, and what it ends with."""

    methods: list[Method]
    background: list[Main]
    audit: Audit
    journal: Journal | None

    def close(self) -> None:
        """Write what was decided last; the server is stopped already."""
        self.audit.flush()
        if self.journal is not None:
            self.journal.close()


def compose(
    settings: AuthzSettings,
    client: Redis,
    metrics: Metrics,
    limiter: Limiter | None = None,
) -> Authz:
    """With a `limiter` one call answers both questions, where a route asks so."""
    clock = SystemClock()
    verdicts = Verdicts(clock, stale_s=settings.authz_stale_s)
    timeout_s = settings.redis_timeout_s
    blacklist = TrackedBlacklist(client, verdicts, clock, metrics, timeout_s)
    keys = settings.key_source(clock, metrics)
    authorizer = Authorizer(
        verifier=Verifier(keys, settings.checks(), clock),
        blacklist=blacklist,
        on_redis_down=settings.authz_on_redis_down,
        metrics=metrics,
        allow_expired_s=settings.authz_allow_expired_s,
    )
    stamp = {"service": "authz", "node": settings.node_id}
    lines = settings.audit_lines(clock, metrics)
    audit = Audit(stamp, clock, lines, settings.authz_audit)
    journal = settings.journal(clock, metrics)
    service = AuthzService(authorizer, metrics, audit, journal, limiter)
    sessions = Sessions(blacklist, clock, metrics, settings.jwt_leeway_s)
    return Authz(
        methods=[*service.methods(), *SessionService(sessions).methods()],
        background=[blacklist.run, keys.run, sessions.run],
        audit=audit,
        journal=journal,
    )

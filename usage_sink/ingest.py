"""`UsageIngest`: trusted services report usage; answered when it is in the spool."""

import hmac
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from hubgate.usage.v1.usage_pb2 import ReportUsageResponse
from runtime.clock import Clock
from runtime.grpc_server import RpcError, RpcStatus, Unary
from runtime.metrics import Metrics
from usage_sink.errors import LedgerUnavailable
from usage_sink.reports import BadReports, checked
from usage_sink.segments import Kind
from usage_sink.spool import Spool

REPORT_PATH: Final = "/hubgate.usage.v1.UsageIngest/ReportUsage"
#: What their rows name as the node.
REPORTS_NODE: Final = "usage-ingest"

_SCHEME: Final = "bearer"


class UsageIngestService:
    """The gRPC method; without a `token` nobody may call it."""

    def __init__(
        self, spool: Spool, clock: Clock, metrics: Metrics, token: str | None
    ) -> None:
        self._spool = spool
        self._clock = clock
        self._metrics = metrics
        self._token = token or None

    def methods(self) -> tuple[Unary]:
        return (
            Unary(
                REPORT_PATH,
                _as_it_is,
                ReportUsageResponse.SerializeToString,
                self.ReportUsage,
                authorize=self._authorize,
            ),
        )

    async def ReportUsage(self, request: bytes) -> ReportUsageResponse:  # noqa: N802 - gRPC's name
        try:
            count = checked(request, datetime.fromtimestamp(self._clock.now(), UTC))
            await self._spool.append(Kind.REPORT, request)
        except BadReports as error:
            self._count("invalid")
            raise RpcError(RpcStatus.INVALID_ARGUMENT, str(error)) from error
        except LedgerUnavailable as error:
            self._count("unavailable")
            raise RpcError(RpcStatus.UNAVAILABLE, str(error)) from error
        self._count("accepted", count)
        return ReportUsageResponse(accepted=count)

    def _authorize(self, metadata: Mapping[str, str | bytes]) -> None:
        """By a secret that is compared in constant time.

        Raises:
            RpcError: UNAUTHENTICATED.
        """
        given = metadata.get("authorization", "")
        scheme, _, secret = (given if isinstance(given, str) else "").partition(" ")
        if self._token is None:
            self._refuse("reports are not switched on here")
        elif scheme.lower() != _SCHEME or not hmac.compare_digest(
            secret.encode(), self._token.encode()
        ):
            self._refuse("give the token as authorization: Bearer")

    def _refuse(self, message: str) -> None:
        self._count("unauthenticated")
        raise RpcError(RpcStatus.UNAUTHENTICATED, message)

    def _count(self, result: str, amount: int = 1) -> None:
        self._metrics.inc("hubgate_usage_reports_total", amount, result=result)


def _as_it_is(payload: bytes) -> bytes:
    return payload

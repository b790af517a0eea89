"""Which instances get requests: health checks, ejection, circuit breakers, retries."""

from functools import lru_cache

from envoy_data_plane.envoy.config.cluster.v3 import (
    CircuitBreakers,
    CircuitBreakersThresholds,
    CircuitBreakersThresholdsRetryBudget,
    Cluster,
    OutlierDetection,
)
from envoy_data_plane.envoy.config.core.v3 import (
    HealthCheck,
    HealthCheckHttpHealthCheck,
)
from envoy_data_plane.envoy.config.route.v3 import (
    RetryPolicy,
    RetryPolicyRetryBackOff,
    RetryPolicyRetryHostPredicate,
)
from envoy_data_plane.envoy.extensions.retry.host.previous_hosts.v3 import (
    PreviousHostsPredicate,
)
from envoy_data_plane.envoy.type.v3 import Percent

from control import services
from control.model import Route
from control.values import seconds
from control.xds import wire

#: Of the requests under way, so many per cent may be repetitions, and always a few:
#: a service that fails must not get three times its load.
RETRY_PERCENT = 20.0
RETRIES_AT_LEAST = 10

#: RFC 9110 section 9.2.2: doing it twice is doing it once. TRACE never gets here.
IDEMPOTENT_METHODS = ("DELETE", "GET", "HEAD", "OPTIONS", "PUT")
#: What the upstream can't have acted on.
_UNSEEN = "connect-failure,refused-stream"
_FAILED = f"{_UNSEEN},reset,gateway-error"
RETRIES = 2


def apply(service: services.Service, cluster: Cluster) -> None:
    """Add to a service's cluster what its document asks."""
    cluster.circuit_breakers = _breakers(service.breaker)
    if service.ejection is not None:
        cluster.outlier_detection = _outliers(service.ejection)
    if service.health_check is not None:
        cluster.health_checks = [_check(service.health_check)]
        # Else an instance that was removed stays for as long as it answers checks.
        cluster.ignore_health_on_host_removal = True
        cluster.close_connections_on_host_health_failure = True


def _breakers(breaker: services.Breaker) -> CircuitBreakers:
    return CircuitBreakers(
        thresholds=[
            CircuitBreakersThresholds(
                max_connections=breaker.connections,
                max_pending_requests=breaker.pending,
                max_requests=breaker.requests,
                retry_budget=CircuitBreakersThresholdsRetryBudget(
                    budget_percent=Percent(value=RETRY_PERCENT),
                    min_retry_concurrency=RETRIES_AT_LEAST,
                ),
            )
        ]
    )


def _outliers(ejection: services.Ejection) -> OutlierDetection:
    length = wire.duration(seconds(ejection.ejected_for))
    return OutlierDetection(
        split_external_local_origin_errors=True,
        consecutive_local_origin_failure=ejection.failures,
        consecutive_gateway_failure=ejection.failures,
        enforcing_consecutive_gateway_failure=100,
        # A 500 is the application's answer, not the instance's end.
        enforcing_consecutive_5xx=0,
        enforcing_success_rate=0,
        enforcing_local_origin_success_rate=0,
        interval=wire.duration(0.5),
        base_ejection_time=length,
        max_ejection_time=length * 6,
        max_ejection_percent=ejection.max_percent,
    )


def _check(check: services.HealthCheck) -> HealthCheck:
    interval = wire.duration(seconds(check.interval))
    return HealthCheck(
        timeout=wire.duration(seconds(check.timeout)),
        interval=interval,
        # Else a cluster without traffic is asked once a minute.
        no_traffic_interval=interval,
        unhealthy_threshold=check.unhealthy_after,
        healthy_threshold=check.healthy_after,
        http_health_check=HealthCheckHttpHealthCheck(path=check.path),
    )


def variants(route: Route) -> list[tuple[tuple[str, ...] | None, bytes]]:
    """A route as Envoy needs it: by methods, each with its retry policy, serialised.

    Envoy's policies know no methods, so what may be repeated is a route of its own.
    """
    unseen, failed = _policy(_UNSEEN), _policy(_FAILED)
    if route.retry == "none":
        return [(route.methods, b"")]
    if route.retry == "connect" or route.websocket:
        return [(route.methods, unseen)]
    if route.methods is None:
        return [(IDEMPOTENT_METHODS, failed), (None, unseen)]
    again = tuple(one for one in route.methods if one in IDEMPOTENT_METHODS)
    once = tuple(one for one in route.methods if one not in IDEMPOTENT_METHODS)
    both = ((again, failed), (once, unseen))
    return [(methods, policy) for methods, policy in both if methods]


@lru_cache(maxsize=4)
def _policy(retry_on: str) -> bytes:
    return bytes(
        RetryPolicy(
            retry_on=retry_on,
            num_retries=RETRIES,
            retry_back_off=RetryPolicyRetryBackOff(
                base_interval=wire.duration(0.01), max_interval=wire.duration(0.1)
            ),
            retry_host_predicate=[
                RetryPolicyRetryHostPredicate(
                    name=wire.PREVIOUS_HOSTS,
                    typed_config=wire.pack(PreviousHostsPredicate()),
                )
            ],
            host_selection_retry_max_attempts=wire.HOST_TRIES,
        )
    )

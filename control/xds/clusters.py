"""Where requests go: one cluster per service, and one per process that Envoy asks."""

from functools import lru_cache
from ipaddress import ip_address

from envoy_data_plane.envoy.config.cluster.v3 import (
    CircuitBreakers,
    CircuitBreakersThresholds,
    Cluster,
    ClusterCommonLbConfig,
    ClusterDiscoveryType,
    ClusterDnsLookupFamily,
    ClusterEdsClusterConfig,
    ClusterLbPolicy,
    OutlierDetection,
)
from envoy_data_plane.envoy.config.core.v3 import (
    HealthCheck,
    HealthCheckGrpcHealthCheck,
    Http1ProtocolOptions,
    Http2ProtocolOptions,
)
from envoy_data_plane.envoy.config.core.v3 import (
    HttpProtocolOptions as CommonHttpOptions,
)
from envoy_data_plane.envoy.extensions.upstreams.http.v3 import (
    HttpProtocolOptions,
    HttpProtocolOptionsExplicitHttpConfig,
)
from envoy_data_plane.envoy.type.v3 import Percent

from control.services import Service
from control.values import Instance, seconds
from control.xds import resilience, wire
from control.xds.endpoints import assignment, endpoints
from runtime.settings import Address

_HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"

#: Memory that one slow peer may hold; bodies stream through it.
BUFFER_BYTES = 64 * 1024
#: Envoy's default of 1,024 refuses a busy gateway's own traffic.
MAX_IN_FLIGHT = 8192
#: The default of 3 retries at a time loses access-log batches in an outage.
MAX_RETRIES = 4096
IDLE_TIMEOUT_S = 60.0

#: A container that is gone does not refuse, it is silent: of the time for a decision
#: (filters.AUTHZ_TIMEOUT_S, rate_limits.TIMEOUT_S) enough must be left for its sibling.
SIDECAR_CONNECT_TIMEOUT_S = 0.05
#: A burst of slow answers must not look like a dead process.
SIDECAR_FAILURES = 5


@lru_cache(maxsize=4096)
def service_cluster(
    name: str, service: Service, instances: tuple[Instance, ...]
) -> bytes:
    """Addresses come by EDS, so that they change without a new cluster; names by DNS.

    With a mix all are resolved like names: an address resolves to itself.
    """
    connect_timeout_s = seconds(service.connect_timeout)
    cluster = _cluster(name, instances, connect_timeout_s=connect_timeout_s)
    resilience.apply(service, cluster)
    return bytes(cluster)


@lru_cache(maxsize=4)
def control_cluster(name: str, address: Address) -> bytes:
    return bytes(_cluster(name, (instance_of(address),), connect_timeout_s=1.0))


@lru_cache(maxsize=64)
def sidecar_cluster(
    name: str, addresses: tuple[Address, ...], at_work: int | None = None
) -> bytes:
    """HTTP/2 to every process of a sidecar; a name is as many as it has addresses.

    The first `at_work` of them are asked, the others when those are not well.

    A dead one is left out within a second, a frozen one within three; when none looks
    healthy all are asked, since a late answer is better than none.
    """
    groups = filter(None, (addresses[:at_work], addresses[at_work:] if at_work else ()))
    cluster = Cluster(
        name=name,
        type=ClusterDiscoveryType.STATIC,
        connect_timeout=wire.duration(SIDECAR_CONNECT_TIMEOUT_S),
        lb_policy=ClusterLbPolicy.LEAST_REQUEST,
        load_assignment=endpoints(
            name, *(map(wire.address_of, group) for group in groups)
        ),
        circuit_breakers=_breakers(),
        health_checks=[_sidecar_check()],
        outlier_detection=OutlierDetection(
            split_external_local_origin_errors=True,
            consecutive_local_origin_failure=SIDECAR_FAILURES,
            enforcing_consecutive_5xx=0,
            enforcing_consecutive_gateway_failure=0,
            enforcing_success_rate=0,
            enforcing_local_origin_success_rate=0,
            interval=wire.duration(0.5),
            base_ejection_time=wire.duration(0.5),
            max_ejection_time=wire.duration(5.0),
            max_ejection_percent=50,
        ),
        typed_extension_protocol_options={
            _HTTP_OPTIONS: wire.pack(
                HttpProtocolOptions(
                    explicit_http_config=HttpProtocolOptionsExplicitHttpConfig(
                        http2_protocol_options=Http2ProtocolOptions()
                    )
                )
            )
        },
    )
    if any(map(_is_name, addresses)):
        cluster.type = ClusterDiscoveryType.STRICT_DNS
        cluster.dns_lookup_family = ClusterDnsLookupFamily.V4_PREFERRED
    return bytes(cluster)


def _is_name(address: Address) -> bool:
    return address.path is None and not instance_of(address).is_ip


def _sidecar_check() -> HealthCheck:
    return HealthCheck(
        timeout=wire.duration(1.0),
        interval=wire.duration(0.5),
        no_traffic_interval=wire.duration(1.0),
        unhealthy_threshold=2,
        healthy_threshold=1,
        grpc_health_check=HealthCheckGrpcHealthCheck(),
    )


def is_eds(instances: tuple[Instance, ...]) -> bool:
    return all(one.is_ip for one in instances)


def _cluster(
    name: str, instances: tuple[Instance, ...], *, connect_timeout_s: float
) -> Cluster:
    cluster = Cluster(
        name=name,
        connect_timeout=wire.duration(connect_timeout_s),
        lb_policy=ClusterLbPolicy.LEAST_REQUEST,
        per_connection_buffer_limit_bytes=BUFFER_BYTES,
        circuit_breakers=_breakers(),
        common_lb_config=_no_panic(),
        typed_extension_protocol_options={_HTTP_OPTIONS: wire.pack(_http1())},
    )
    if is_eds(instances):
        cluster.type = ClusterDiscoveryType.EDS
        cluster.eds_cluster_config = ClusterEdsClusterConfig(eds_config=wire.ads())
    else:
        cluster.type = ClusterDiscoveryType.STRICT_DNS
        cluster.dns_lookup_family = ClusterDnsLookupFamily.V4_PREFERRED
        cluster.load_assignment = assignment(name, instances)
    return cluster


def _http1() -> HttpProtocolOptions:
    return HttpProtocolOptions(
        common_http_protocol_options=CommonHttpOptions(
            idle_timeout=wire.duration(IDLE_TIMEOUT_S)
        ),
        explicit_http_config=HttpProtocolOptionsExplicitHttpConfig(
            http_protocol_options=Http1ProtocolOptions()
        ),
    )


def _breakers() -> CircuitBreakers:
    return CircuitBreakers(
        thresholds=[
            CircuitBreakersThresholds(
                max_connections=MAX_IN_FLIGHT,
                max_pending_requests=MAX_IN_FLIGHT,
                max_requests=MAX_IN_FLIGHT,
                max_retries=MAX_RETRIES,
            )
        ]
    )


def _no_panic() -> ClusterCommonLbConfig:
    return ClusterCommonLbConfig(
        # By default Envoy sends to unhealthy hosts once fewer than half are healthy,
        healthy_panic_threshold=Percent(value=0.0),
        # and holds back a second change of health for a whole second.
        update_merge_window=wire.duration(0.1),
    )


def instance_of(address: Address) -> Instance:
    try:
        ip_address(address.host)
    except ValueError:
        return Instance(address.host, address.port, is_ip=False)
    return Instance(address.host, address.port, is_ip=True)

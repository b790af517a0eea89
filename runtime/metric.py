"""What a metric is, and the names of all of them: a wrong one is a type error."""

from dataclasses import dataclass
from enum import Enum
from typing import Literal

MetricName = Literal[
    "hubgate_alerts_evaluated_total",
    "hubgate_alerts_firing",
    "hubgate_alerts_messages_total",
    "hubgate_authz_audit_lines_total",
    "hubgate_authz_decisions_total",
    "hubgate_authz_journal_lines_total",
    "hubgate_authz_limiter_failures_total",
    "hubgate_authz_sessions",
    "hubgate_authz_sessions_ended_total",
    "hubgate_authz_store_failures_total",
    "hubgate_blacklist_answers_total",
    "hubgate_blacklist_changes_total",
    "hubgate_blacklist_tracking",
    "hubgate_config_nacks_total",
    "hubgate_config_publish_seconds",
    "hubgate_config_revision",
    "hubgate_grpc_failures_total",
    "hubgate_grpc_faults_total",
    "hubgate_jwks_fetches_total",
    "hubgate_ratelimit_decisions_total",
    "hubgate_ratelimit_outages_total",
    "hubgate_ratelimit_shadow_total",
    "hubgate_ratelimit_store_failures_total",
    "hubgate_ratelimit_stores_down",
    "hubgate_ratelimit_tokens_total",
    "hubgate_registered_instances",
    "hubgate_revocations_unnoted_total",
    "hubgate_rpc_seconds",
    "hubgate_usage_batch_rows",
    "hubgate_usage_pending_seconds",
    "hubgate_usage_records_total",
    "hubgate_usage_reports_total",
    "hubgate_usage_spool_bytes",
    "hubgate_usage_spool_damaged_total",
    "hubgate_usage_spool_refused_total",
    "hubgate_usage_store_failures_total",
    "hubgate_usage_unpriced_total",
    "hubgate_usage_complete_through_seconds",
    "hubgate_usage_credit_differences_total",
    "hubgate_usage_evidence_failures_total",
    "hubgate_usage_exports_too_slow_total",
    "hubgate_usage_missing",
    "hubgate_usage_open_requests",
    "hubgate_usage_reconciled_total",
    "hubgate_usage_torn_lines_total",
    "hubgate_usage_unsettled_total",
    "hubgate_usage_write_seconds",
    "hubgate_xds_streams",
]
#: Who counts.
Service = Literal["authz", "control", "ratelimit", "usage_sink"]


class Kind(Enum):
    """Prometheus' kinds that we use."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Metric:
    """One row of the list that an operator reads."""

    name: MetricName
    kind: Kind
    meaning: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()

"""Every metric of hubgate: name, kind, labels and meaning, by who counts it."""

from collections.abc import Mapping

from runtime.metric import Kind, Metric, Service

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)
_ROWS = (1, 5, 10, 50, 100, 500, 1000, 2000, 5000, 20000)

_AUTHZ: tuple[Metric, ...] = (
    Metric(
        "hubgate_authz_audit_lines_total",
        Kind.COUNTER,
        "Attempts by what became of their line in the audit file: written, lost (the"
        " disk is full, or the file can't be opened)",
        ("result",),
    ),
    Metric(
        "hubgate_authz_decisions_total",
        Kind.COUNTER,
        "Requests decided, by verdict (allow, deny) and reason",
        ("verdict", "reason"),
    ),
    Metric(
        "hubgate_authz_journal_lines_total",
        Kind.COUNTER,
        "Requests let pass, by what became of their journal line: written, lost (the"
        " disk is full, or the journal)",
        ("result",),
    ),
    Metric(
        "hubgate_authz_limiter_failures_total",
        Kind.COUNTER,
        "Requests that passed without limits since the limiter beside authz failed",
    ),
    Metric(
        "hubgate_authz_sessions",
        Kind.GAUGE,
        "Open connections that end with their token (WebSockets)",
    ),
    Metric(
        "hubgate_authz_sessions_ended_total",
        Kind.COUNTER,
        "Connections ended by the gateway: expired, revoked, stopping",
        ("reason",),
    ),
    Metric(
        "hubgate_authz_store_failures_total",
        Kind.COUNTER,
        "Lookups that Redis did not answer: deny, allow (as set), keep (a connection)",
        ("action",),
    ),
    Metric(
        "hubgate_blacklist_answers_total",
        Kind.COUNTER,
        "Revocations looked up, by who answered: cache, redis, stale (a kept answer"
        " while Redis is away)",
        ("source",),
    ),
    Metric(
        "hubgate_blacklist_changes_total",
        Kind.COUNTER,
        "Changes of the blacklist that Redis announced",
    ),
    Metric(
        "hubgate_blacklist_tracking",
        Kind.GAUGE,
        "1 while Redis announces changes and answers are kept, else 0",
    ),
)
_CONTROL: tuple[Metric, ...] = (
    Metric(
        "hubgate_alerts_evaluated_total",
        Kind.COUNTER,
        "Evaluations of alert rules by result: ok, failed (its state stays)",
        ("result",),
    ),
    Metric(
        "hubgate_alerts_firing",
        Kind.GAUGE,
        "Alert rules that fire, as the control that evaluates them sees it",
    ),
    Metric(
        "hubgate_alerts_messages_total",
        Kind.COUNTER,
        "Attempts to tell a webhook by result: delivered, failed (tried again),"
        " fault (of ours, tried again; the log says where), given_up (after three"
        " days)",
        ("result",),
    ),
    Metric(
        "hubgate_config_nacks_total",
        Kind.COUNTER,
        "Configurations that an Envoy refused, by resource type",
        ("type",),
    ),
    Metric(
        "hubgate_config_publish_seconds",
        Kind.HISTOGRAM,
        "Time from a change to the acknowledgement of every connected Envoy",
        buckets=_SECONDS,
    ),
    Metric("hubgate_config_revision", Kind.GAUGE, "The active configuration revision"),
    Metric(
        "hubgate_registered_instances",
        Kind.GAUGE,
        "Instances that registered themselves and were heard of in time",
    ),
    Metric(
        "hubgate_revocations_unnoted_total",
        Kind.COUNTER,
        "Revocations in force that the audit log could not take",
    ),
    Metric(
        "hubgate_usage_exports_too_slow_total",
        Kind.COUNTER,
        "Exports that were broken off since their reader was too slow",
    ),
    Metric("hubgate_xds_streams", Kind.GAUGE, "Envoys connected over ADS"),
    Metric(
        "hubgate_jwks_fetches_total",
        Kind.COUNTER,
        "Fetches of JWK Sets, by result: ok, failed (the last good set is kept)",
        ("result",),
    ),
)
_RATELIMIT: tuple[Metric, ...] = (
    Metric(
        "hubgate_ratelimit_decisions_total",
        Kind.COUNTER,
        "Requests counted, by verdict (allow, deny, unlimited) and role",
        ("verdict", "role"),
    ),
    Metric(
        "hubgate_ratelimit_outages_total",
        Kind.COUNTER,
        "Times that Redis stopped answering, by the driver's error",
        ("reason",),
    ),
    Metric(
        "hubgate_ratelimit_shadow_total",
        Kind.COUNTER,
        "Decisions of rules in shadow mode, by rule and what they would have said",
        ("rule", "verdict"),
    ),
    Metric(
        "hubgate_ratelimit_store_failures_total",
        Kind.COUNTER,
        "Decisions that Redis did not make, by what was done then",
        ("action",),
    ),
    Metric(
        "hubgate_ratelimit_stores_down",
        Kind.GAUGE,
        "Redis servers that are not asked because they don't answer",
    ),
    Metric(
        "hubgate_ratelimit_tokens_total",
        Kind.COUNTER,
        "Tokens charged to budgets after AI answers",
    ),
)
OF_ALL: tuple[Metric, ...] = (
    Metric(
        "hubgate_grpc_failures_total",
        Kind.COUNTER,
        "RPCs that ended in an unexpected exception, by method",
        ("method",),
    ),
    Metric(
        "hubgate_grpc_faults_total",
        Kind.COUNTER,
        "gRPC connections that were ended for what the peer did, by kind: protocol"
        " (broken, or a flood), stalled, connections (too many)",
        ("kind",),
    ),
    Metric(
        "hubgate_rpc_seconds",
        Kind.HISTOGRAM,
        "Time inside a unary gRPC handler, by method",
        ("method",),
        _SECONDS,
    ),
)
_USAGE_SINK: tuple[Metric, ...] = (
    Metric(
        "hubgate_usage_batch_rows",
        Kind.HISTOGRAM,
        "Access-log entries per transaction",
        buckets=_ROWS,
    ),
    Metric(
        "hubgate_usage_pending_seconds",
        Kind.GAUGE,
        "Age of the oldest entry in the spool that is not in the ledger; 0 when none",
    ),
    Metric(
        "hubgate_usage_records_total",
        Kind.COUNTER,
        "Access-log entries by result: new, known (a replay), quarantined,"
        " unidentified (refused before it was a request), abandoned (of a plain ALS"
        " stream, at a stop)",
        ("result",),
    ),
    Metric(
        "hubgate_usage_reports_total",
        Kind.COUNTER,
        "Reports of trusted services by result: accepted; and calls that were"
        " invalid, unauthenticated, unavailable (the spool did not take them)",
        ("result",),
    ),
    Metric(
        "hubgate_usage_spool_bytes",
        Kind.GAUGE,
        "Size of the spool on disk",
    ),
    Metric(
        "hubgate_usage_spool_damaged_total",
        Kind.COUNTER,
        "Places in the spool where records could not be read; the segments are kept"
        " as *.corrupt",
    ),
    Metric(
        "hubgate_usage_spool_refused_total",
        Kind.COUNTER,
        "Batches that the spool did not take, by reason: full, disk, slow; their"
        " senders keep them",
        ("reason",),
    ),
    Metric(
        "hubgate_usage_store_failures_total",
        Kind.COUNTER,
        "Attempts to write a batch that failed; it is tried again",
    ),
    Metric(
        "hubgate_usage_unpriced_total",
        Kind.COUNTER,
        "AI calls written without a price: to be re-rated",
    ),
    Metric(
        "hubgate_usage_credit_differences_total",
        Kind.COUNTER,
        "Rows whose upstream took other credits than the price book says",
    ),
    Metric(
        "hubgate_usage_complete_through_seconds",
        Kind.GAUGE,
        "Age of the instant through which every request that ended has its row",
    ),
    Metric(
        "hubgate_usage_evidence_failures_total",
        Kind.COUNTER,
        "Rounds of looking for missing rows that failed; the next one goes on",
        ("part",),
    ),
    Metric(
        "hubgate_usage_missing",
        Kind.GAUGE,
        "Requests admitted or logged that ought to have a row and have none: an alarm",
    ),
    Metric(
        "hubgate_usage_open_requests",
        Kind.GAUGE,
        "Admitted requests without a row: not ended, or not settled yet",
    ),
    Metric(
        "hubgate_usage_reconciled_total",
        Kind.COUNTER,
        "Requests that the stream did not bring, restored from Envoy's file log",
    ),
    Metric(
        "hubgate_usage_torn_lines_total",
        Kind.COUNTER,
        "Lines of the file log or the journal that a killed writer left unreadable",
    ),
    Metric(
        "hubgate_usage_unsettled_total",
        Kind.COUNTER,
        "Admitted requests that ended with their Envoy, without a record",
    ),
    Metric(
        "hubgate_usage_write_seconds",
        Kind.HISTOGRAM,
        "Time of one transaction of the ledger",
        buckets=_SECONDS,
    ),
)

#: What a process tells of itself from its start on.
OF: Mapping[Service, tuple[Metric, ...]] = {
    "authz": _AUTHZ,
    "control": _CONTROL,
    "ratelimit": _RATELIMIT,
    "usage_sink": _USAGE_SINK,
}
METRICS = (*OF_ALL, *(metric for own in OF.values() for metric in own))

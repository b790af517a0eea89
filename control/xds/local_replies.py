"""What the gateway says itself: `{"code","message","requestId"}`, for every status.

A body format also rewrites what authz and ratelimit wrote: theirs is passed through.
Envoy's own details are not shown: they name its internals.
"""

from dataclasses import dataclass

from envoy_data_plane.envoy.config.accesslog.v3 import (
    AccessLogFilter,
    AndFilter,
    ComparisonFilter,
    ComparisonFilterOp,
    ExtensionFilter,
    HeaderFilter,
    ResponseFlagFilter,
    StatusCodeFilter,
)
from envoy_data_plane.envoy.config.core.v3 import (
    DataSource,
    RuntimeUInt32,
    SubstitutionFormatString,
)
from envoy_data_plane.envoy.config.route.v3 import HeaderMatcher
from envoy_data_plane.envoy.extensions.access_loggers.filters.cel.v3 import (
    ExpressionFilter,
)
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import (  # noqa: E501 - Envoy's name
    LocalReplyConfig,
    ResponseMapper,
)
from envoy_data_plane.envoy.type.matcher.v3 import StringMatcher

from control.edge import Edge
from control.xds import wire
from control.xds.networks import POLICY_BLOCKED
from control.xds.response_headers import own_headers
from runtime.contracts import ErrorCode

_JSON = "application/json"
_RATE_LIMITED = "RL"
_DENIED = "UAEX"


@dataclass(frozen=True, slots=True)
class _Reply:
    status: int
    code: ErrorCode
    message: str


_REPLIES = (
    _Reply(403, ErrorCode.FORBIDDEN, "This is not allowed here"),
    _Reply(404, ErrorCode.ROUTE_NOT_FOUND, "No route for this path"),
    _Reply(405, ErrorCode.METHOD_NOT_ALLOWED, "This route does not take this method"),
    _Reply(408, ErrorCode.BAD_REQUEST, "The request did not arrive in time"),
    _Reply(413, ErrorCode.PAYLOAD_TOO_LARGE, "The request body is too large"),
    _Reply(426, ErrorCode.BAD_REQUEST, "Use HTTP/1.1 or HTTP/2"),
    _Reply(431, ErrorCode.HEADERS_TOO_LARGE, "The request headers are too large"),
    _Reply(501, ErrorCode.BAD_REQUEST, "Give a body with a length, or chunked"),
    _Reply(504, ErrorCode.UPSTREAM_TIMEOUT, "The service did not answer in time"),
)
_UPSTREAM = _Reply(
    500, ErrorCode.UPSTREAM_UNAVAILABLE, "The service is not available now"
)
_AUTH = _Reply(
    500, ErrorCode.AUTH_UNAVAILABLE, "The request can't be checked now, try again later"
)
_BLOCKED = _Reply(
    403, ErrorCode.IP_BLOCKED, "Requests from this network are not accepted"
)
_TUNNEL = _Reply(
    405, ErrorCode.METHOD_NOT_ALLOWED, "The gateway does not take this method"
)
_BAD = _Reply(400, ErrorCode.BAD_REQUEST, "The request can't be understood")

#: Statuses below are the client's doing, or no error at all.
_LEAST_SERVER_ERROR = 500
_LEAST_ERROR = 400


def local_reply_config(edge: Edge) -> LocalReplyConfig:
    """Mappers in order of precedence; the first that fits decides."""
    denied = _and(_flag(_DENIED), _status(ComparisonFilterOp.LE, 499))
    mappers = [
        _pass_through(_flag(_RATE_LIMITED)),
        _pass_through(denied),
        _say(_flag(_DENIED), _AUTH),
        _say(
            _details(f"rbac_access_denied_matched_policy[{POLICY_BLOCKED}]"), _BLOCKED
        ),
        _tunnel(),
        *(_say(_status(ComparisonFilterOp.EQ, one.status), one) for one in _REPLIES),
        _say(_status(ComparisonFilterOp.GE, _LEAST_SERVER_ERROR), _UPSTREAM),
        _say(_status(ComparisonFilterOp.GE, _LEAST_ERROR), _BAD),
        _pass_through(_status(ComparisonFilterOp.LE, _LEAST_ERROR - 1)),
    ]
    # Replies before a route is found don't get the routes' headers.
    headers = own_headers(edge)
    for mapper in mappers:
        mapper.headers_to_add = [*headers, *mapper.headers_to_add]
    return LocalReplyConfig(mappers=mappers)


def _say(condition: AccessLogFilter, reply: _Reply) -> ResponseMapper:
    body = wire.text_struct(
        {
            "code": reply.code.value,
            "message": reply.message,
            "requestId": "%STREAM_ID%",
        }
    )
    return ResponseMapper(
        filter=condition,
        body_format_override=SubstitutionFormatString(
            json_format=body, content_type=_JSON
        ),
    )


def _pass_through(condition: AccessLogFilter) -> ResponseMapper:
    return ResponseMapper(
        filter=condition,
        body_format_override=SubstitutionFormatString(
            text_format_source=DataSource(inline_string="%LOCAL_REPLY_BODY%"),
            content_type=_JSON,
        ),
    )


def _tunnel() -> ResponseMapper:
    """CONNECT never reaches a route: Envoy refuses it as an upgrade, with 403."""
    is_connect = HeaderMatcher(
        name=":method", string_match=StringMatcher(exact="CONNECT")
    )
    mapper = _say(
        AccessLogFilter(header_filter=HeaderFilter(header=is_connect)), _TUNNEL
    )
    mapper.status_code = _TUNNEL.status
    return mapper


def _details(start: str) -> AccessLogFilter:
    expression = ExpressionFilter(
        expression=f"response.code_details.startsWith('{start}')"
    )
    return AccessLogFilter(
        extension_filter=ExtensionFilter(
            name="envoy.access_loggers.extension_filters.cel",
            typed_config=wire.pack(expression),
        )
    )


def _flag(flag: str) -> AccessLogFilter:
    return AccessLogFilter(response_flag_filter=ResponseFlagFilter(flags=[flag]))


def _status(operation: ComparisonFilterOp, status: int) -> AccessLogFilter:
    return AccessLogFilter(
        status_code_filter=StatusCodeFilter(
            comparison=ComparisonFilter(
                op=operation,
                # Envoy demands a key; nothing ever sets this one.
                value=RuntimeUInt32(
                    default_value=status, runtime_key="hubgate.local_reply_status"
                ),
            )
        )
    )


def _and(*conditions: AccessLogFilter) -> AccessLogFilter:
    return AccessLogFilter(and_filter=AndFilter(filters=list(conditions)))

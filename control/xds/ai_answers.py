"""What `ai` routes let Envoy read in a provider's answer; elsewhere all this is off.

Two readers, since each knows what the other can't: `ai_protocol_manager` gives all
counts of a whole answer, JSON or stream, at its end; `sse_to_metadata` keeps what the
events of a stream have said so far, also when it is cut. Neither holds an answer back.
Both read plain text only: `accept-encoding` is not sent to the provider, and what one
compresses all the same is decompressed first.
"""

from functools import lru_cache

import betterproto2
from envoy_data_plane.envoy.config.core.v3 import (
    RuntimeFeatureFlag,
    TypedExtensionConfig,
)
from envoy_data_plane.envoy.config.route.v3 import FilterConfig
from envoy_data_plane.envoy.extensions.compression.brotli.decompressor.v3 import Brotli
from envoy_data_plane.envoy.extensions.compression.gzip.decompressor.v3 import Gzip
from envoy_data_plane.envoy.extensions.compression.zstd.decompressor.v3 import Zstd
from envoy_data_plane.envoy.extensions.content_parsers.json.v3 import (
    JsonContentParser,
    JsonContentParserRuleConfig,
)
from envoy_data_plane.envoy.extensions.filters.http.decompressor.v3 import (
    Decompressor,
    DecompressorCommonDirectionConfig,
    DecompressorRequestDirectionConfig,
)
from envoy_data_plane.envoy.extensions.filters.http.json_to_metadata.v3 import (
    JsonToMetadataKeyValuePair,
    JsonToMetadataRule,
    JsonToMetadataSelector,
    JsonToMetadataValueType,
)
from envoy_data_plane.envoy.extensions.filters.http.sse_to_metadata.v3 import (
    SseToMetadata,
    SseToMetadataProcessingRules,
)
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import (  # noqa: E501 - Envoy's name
    HttpFilter,
)
from envoy_data_plane.google.protobuf import Any, Value

from control.xds import wire
from runtime.contracts import access_log

MANAGER = "envoy.filters.http.ai_protocol_manager"
_STREAM = "envoy.filters.http.sse_to_metadata"
_DECOMPRESSOR = "envoy.filters.http.decompressor"
INCLUDE_USAGE = "envoy.filters.http.lua.include_usage"
_MANAGER_TYPE = "envoy.extensions.filters.http.ai_protocol_manager.v3.AiProtocolManager"

#: A larger event is passed on unread; a picture in base64 may be one.
MAX_EVENT_BYTES = 1024 * 1024

#: Compressed by a provider that was not asked to.
_LIBRARIES: dict[str, betterproto2.Message] = {
    "gzip": Gzip(),
    "brotli": Brotli(),
    "zstd": Zstd(),
}
_NAMES = (MANAGER, _STREAM, *(f"{_DECOMPRESSOR}.{name}" for name in _LIBRARIES))

#: Where in an event -> under which key, by provider. A later event replaces what an
#: earlier one said: all providers count on from the beginning.
_NUMBERS = {
    # OpenAI chat completions, in the last event but one
    "usage.prompt_tokens": access_log.SSE_INPUT,
    "usage.completion_tokens": access_log.SSE_OUTPUT,
    "usage.prompt_tokens_details.cached_tokens": access_log.SSE_CACHED,
    "usage.completion_tokens_details.reasoning_tokens": access_log.SSE_REASONING,
    # OpenAI responses
    "response.usage.input_tokens": access_log.SSE_INPUT,
    "response.usage.output_tokens": access_log.SSE_OUTPUT,
    "response.usage.input_tokens_details.cached_tokens": access_log.SSE_CACHED,
    "response.usage.output_tokens_details.reasoning_tokens": access_log.SSE_REASONING,
    # Anthropic: message_start, then message_delta
    "message.usage.input_tokens": access_log.SSE_INPUT,
    "message.usage.output_tokens": access_log.SSE_OUTPUT,
    "message.usage.cache_read_input_tokens": access_log.SSE_CACHE_READ,
    "message.usage.cache_creation_input_tokens": access_log.SSE_CACHE_CREATION,
    "usage.input_tokens": access_log.SSE_INPUT,
    "usage.output_tokens": access_log.SSE_OUTPUT,
    "usage.cache_read_input_tokens": access_log.SSE_CACHE_READ,
    "usage.cache_creation_input_tokens": access_log.SSE_CACHE_CREATION,
    # Gemini, in every event
    "usageMetadata.promptTokenCount": access_log.SSE_INPUT,
    "usageMetadata.candidatesTokenCount": access_log.SSE_OUTPUT,
    "usageMetadata.cachedContentTokenCount": access_log.SSE_CACHED,
    "usageMetadata.toolUsePromptTokenCount": access_log.SSE_TOOL_USE,
    "usageMetadata.thoughtsTokenCount": access_log.SSE_THOUGHTS,
}
_MODELS = ("model", "response.model", "message.model", "modelVersion")
#: What only this provider's events have -> envoy.type.ai.v3.LLMProtocol.
_PROTOCOLS = {
    "object": "1",
    "response.object": "2",
    "message.usage": "3",
    "usageMetadata": "4",
}
#: What only the last events have. Gemini's have nothing of their own that can be named
#: (`finishReason` is inside a list), but the first ones count no output yet.
_FINAL = (
    "usage.prompt_tokens",
    "response.usage.output_tokens",
    "usage.output_tokens",
    "usageMetadata.candidatesTokenCount",
    "promptFeedback",
)


def http_filters() -> list[HttpFilter]:
    """An answer meets them from the last to the first.

    It is decompressed, read, and then the event that no client asked for is hidden.
    """
    manager: dict[str, object] = {
        "response_handling": {"token_usage": {"include_unconfigured_routes": True}}
    }
    configs = [
        wire.script("include_usage.lua"),
        wire.pack_untyped(_MANAGER_TYPE, manager),
        wire.pack(_stream_reader()),
        *(wire.pack(_decompressor(name)) for name in _LIBRARIES),
    ]
    return [
        HttpFilter(name=name, disabled=True, typed_config=config)
        for name, config in zip((INCLUDE_USAGE, *_NAMES), configs, strict=True)
    ]


@lru_cache(maxsize=2)
def enabled(*, include_usage: bool) -> dict[str, Any]:
    """For an `ai` route; `include_usage` changes its requests, the others only read."""
    on = wire.pack(FilterConfig(config=Any()))
    return dict.fromkeys((INCLUDE_USAGE, *_NAMES) if include_usage else _NAMES, on)


def _stream_reader() -> SseToMetadata:
    parser = JsonContentParser(
        rules=[
            *(_rule(path, _number(key)) for path, key in _NUMBERS.items()),
            *(
                _rule(path, _constant(access_log.SSE_PROTOCOL, text))
                for path, text in _PROTOCOLS.items()
            ),
            *(_rule(path, _constant(access_log.SSE_FINAL, "1")) for path in _FINAL),
            *(_rule(path, _model()) for path in _MODELS),
        ]
    )
    return SseToMetadata(
        response_rules=SseToMetadataProcessingRules(
            max_event_size=MAX_EVENT_BYTES,
            content_parser=TypedExtensionConfig(
                name="envoy.content_parsers.json", typed_config=wire.pack(parser)
            ),
        )
    )


def _rule(path: str, kept: JsonToMetadataKeyValuePair) -> JsonContentParserRuleConfig:
    selectors = [JsonToMetadataSelector(key=key) for key in path.split(".")]
    return JsonContentParserRuleConfig(
        rule=JsonToMetadataRule(selectors=selectors, on_present=kept)
    )


def _number(key: str) -> JsonToMetadataKeyValuePair:
    return JsonToMetadataKeyValuePair(
        metadata_namespace=access_log.SSE_NAMESPACE,
        key=key,
        type=JsonToMetadataValueType.NUMBER,
    )


def _constant(key: str, text: str) -> JsonToMetadataKeyValuePair:
    return JsonToMetadataKeyValuePair(
        metadata_namespace=access_log.SSE_NAMESPACE,
        key=key,
        value=Value(string_value=text),
    )


def _model() -> JsonToMetadataKeyValuePair:
    return JsonToMetadataKeyValuePair(
        metadata_namespace=access_log.SSE_MODEL_NAMESPACE,
        key=access_log.SSE_MODEL,
        type=JsonToMetadataValueType.STRING,
    )


def _decompressor(name: str) -> Decompressor:
    never = RuntimeFeatureFlag(default_value=False, runtime_key="hubgate.never")
    return Decompressor(
        decompressor_library=TypedExtensionConfig(
            name=name, typed_config=wire.pack(_LIBRARIES[name])
        ),
        # A client's own body goes to the provider as it came.
        request_direction_config=DecompressorRequestDirectionConfig(
            common_config=DecompressorCommonDirectionConfig(enabled=never)
        ),
    )

"""mcp-server on a real socket, asked by the providers' own client libraries."""

import asyncio
from collections.abc import AsyncIterator

import anthropic
import openai
import pytest
import websockets
from websockets.typing import Subprotocol

from local.demo.mcp.app import McpDeps, create_app
from local.demo.serving import serving
from runtime.clock import SystemClock
from runtime.settings import Address

ANYWHERE = Address(host="127.0.0.1", port=0)
SLOW = {"hubgate_demo": {"event_interval_ms": 10_000}}


@pytest.fixture
async def mcp() -> AsyncIterator[Address]:
    app = create_app(McpDeps(clock=SystemClock()))
    async with asyncio.timeout(20), serving(app, ANYWHERE, drain_timeout_s=2) as bound:
        yield bound


@pytest.fixture
async def chat(mcp: Address) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(
        base_url=f"http://{mcp}/api/mcp/openai/v1", api_key="token", max_retries=0
    ) as client:
        yield client


@pytest.fixture
async def claude(mcp: Address) -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with anthropic.AsyncAnthropic(
        base_url=f"http://{mcp}/api/mcp/anthropic", auth_token="token", max_retries=0
    ) as client:
        yield client


async def test_openais_client_reads_a_completion(chat: openai.AsyncOpenAI) -> None:
    completion = await chat.chat.completions.create(
        model="gpt-4o",
        messages=[
            {"role": "system", "content": "Be very brief"},
            {"role": "user", "content": "Good morning"},
        ],
    )
    assert completion.choices[0].message.content == "You said: Good morning"
    assert completion.choices[0].finish_reason == "stop"
    usage = completion.usage
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens) == (5, 4)
    assert usage.total_tokens == 9
    assert usage.prompt_tokens_details is not None
    assert usage.prompt_tokens_details.cached_tokens == 3


async def test_openais_client_reads_a_stream_with_usage(
    chat: openai.AsyncOpenAI,
) -> None:
    stream = await chat.chat.completions.create(
        model="gpt-4o-mini",
        messages=[{"role": "user", "content": "Good morning"}],
        max_completion_tokens=3,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = [chunk async for chunk in stream]
    choices = [chunk.choices[0] for chunk in chunks if chunk.choices]
    assert "".join(one.delta.content or "" for one in choices) == "You said: Good"
    assert choices[-1].finish_reason == "length"
    usage = chunks[-1].usage
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens) == (2, 3)


async def test_openais_client_gets_no_usage_that_it_did_not_ask_for(
    chat: openai.AsyncOpenAI,
) -> None:
    stream = await chat.chat.completions.create(
        model="gpt-4o", messages=[{"role": "user", "content": "Hi"}], stream=True
    )
    assert [chunk.usage async for chunk in stream if chunk.usage] == []


async def test_the_first_openai_chunk_comes_before_the_second_is_made(
    chat: openai.AsyncOpenAI,
) -> None:
    stream = await chat.chat.completions.create(
        model="gpt-4o",
        messages=[{"role": "user", "content": "Hi"}],
        stream=True,
        extra_body=SLOW,
    )
    async with asyncio.timeout(5), stream:
        first = await anext(aiter(stream))
    assert first.choices[0].delta.role == "assistant"


async def test_openais_client_knows_an_unknown_model(
    chat: openai.AsyncOpenAI,
) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        await chat.chat.completions.create(
            model="gpt-0", messages=[{"role": "user", "content": "Hi"}]
        )
    assert caught.value.code == "model_not_found"


async def test_openais_client_lists_the_models(chat: openai.AsyncOpenAI) -> None:
    listed = await chat.models.list()
    assert "gpt-4o" in {model.id for model in listed.data}


async def test_anthropics_client_reads_a_message(
    claude: anthropic.AsyncAnthropic,
) -> None:
    message = await claude.messages.create(
        model="claude-haiku-4-5",
        max_tokens=50,
        system="Be very brief",
        messages=[{"role": "user", "content": [{"type": "text", "text": "Hi there"}]}],
    )
    block = message.content[0]
    assert block.type == "text"
    assert block.text == "You said: Hi there"
    assert message.stop_reason == "end_turn"
    usage = message.usage
    assert (usage.input_tokens, usage.output_tokens) == (2, 4)
    assert usage.cache_read_input_tokens == 3


async def test_anthropics_client_puts_a_stream_together(
    claude: anthropic.AsyncAnthropic,
) -> None:
    async with claude.messages.stream(
        model="claude-sonnet-4-6",
        max_tokens=3,
        system="Be brief",
        messages=[{"role": "user", "content": "Hi there"}],
    ) as stream:
        text = "".join([piece async for piece in stream.text_stream])
        message = await stream.get_final_message()
    assert text == "You said: Hi"
    assert message.stop_reason == "max_tokens"
    assert (message.usage.input_tokens, message.usage.output_tokens) == (2, 3)
    assert message.usage.cache_read_input_tokens == 2


async def test_the_first_anthropic_event_comes_before_the_second_is_made(
    claude: anthropic.AsyncAnthropic,
) -> None:
    stream = await claude.messages.create(
        model="claude-haiku-4-5",
        max_tokens=50,
        messages=[{"role": "user", "content": "Hi"}],
        stream=True,
        extra_body=SLOW,
    )
    async with asyncio.timeout(5), stream:
        first = await anext(aiter(stream))
    assert first.type == "message_start"


async def test_anthropics_client_knows_an_unknown_model(
    claude: anthropic.AsyncAnthropic,
) -> None:
    with pytest.raises(anthropic.NotFoundError):
        await claude.messages.create(
            model="claude-0",
            max_tokens=5,
            messages=[{"role": "user", "content": "Hi"}],
        )


async def test_the_socket_says_back_text_and_bytes(mcp: Address) -> None:
    async with websockets.connect(f"ws://{mcp}/api/ws/echo", proxy=None) as socket:
        for message in ("hello", "", b"\x00\xff"):
            await socket.send(message)
            assert await socket.recv() == message
    assert socket.close_code == 1000


async def test_a_browser_may_offer_its_token_beside_bearer(mcp: Address) -> None:
    offered = [Subprotocol("bearer"), Subprotocol("aaa.bbb.ccc")]
    async with websockets.connect(
        f"ws://{mcp}/api/ws/echo", subprotocols=offered, proxy=None
    ) as socket:
        assert socket.subprotocol == "bearer"
        await socket.send("hello")
        assert await socket.recv() == "hello"


async def test_no_subprotocol_is_chosen_that_was_not_offered(mcp: Address) -> None:
    async with websockets.connect(
        f"ws://{mcp}/api/ws/echo", subprotocols=[Subprotocol("chat")], proxy=None
    ) as socket:
        assert socket.subprotocol is None

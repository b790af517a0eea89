"""A WebSocket that says back what it hears."""

from typing import Final

from fastapi import FastAPI, WebSocket

#: A browser cannot set Authorization on a WebSocket: it offers the subprotocols
#: `bearer` and the token itself, and closes unless one of them is chosen.
_BEARER: Final = "bearer"


def add_echo(app: FastAPI) -> None:
    """Add `/api/ws/echo`: text is answered with text, bytes with bytes."""

    @app.websocket("/api/ws/echo")
    async def echo(socket: WebSocket) -> None:
        offered = socket.scope["subprotocols"]
        await socket.accept(_BEARER if _BEARER in offered else None)
        while (message := await socket.receive())["type"] == "websocket.receive":
            if (text := message.get("text")) is not None:
                await socket.send_text(text)
            else:
                await socket.send_bytes(message["bytes"])

"""Exports, loaded when the first one is asked for: pyarrow takes 60 MB."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from control.export import Ended, Exporter, ExportQuery, Manifest


class LateExports:
    """Does what `load` gives, which is called once, in a thread."""

    def __init__(self, load: Callable[[], Exporter]) -> None:
        self._load = load
        self._loaded: Exporter | None = None
        self._turn = asyncio.Lock()

    async def fixed(self, query: ExportQuery) -> ExportQuery:
        return await (await self._exporter()).fixed(query)

    def manifest_of(self, query: ExportQuery) -> Manifest | None:
        return None if self._loaded is None else self._loaded.manifest_of(query)

    async def manifest(self, query: ExportQuery, caller: str) -> Manifest:
        return await (await self._exporter()).manifest(query, caller)

    async def stream(
        self, query: ExportQuery, caller: str, ended: Ended | None = None
    ) -> AsyncGenerator[bytes, None]:
        exporter = await self._exporter()
        async with aclosing(exporter.stream(query, caller, ended)) as content:
            async for some in content:
                yield some

    async def _exporter(self) -> Exporter:
        async with self._turn:
            if self._loaded is None:
                self._loaded = await asyncio.to_thread(self._load)
            return self._loaded

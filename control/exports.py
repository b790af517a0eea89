"""Exports on their way: how many at once, pseudonyms, digests, and their ends."""

import asyncio
import hashlib
from collections import Counter, OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from typing import Final
from uuid import UUID

import pyarrow as pa
from pyarrow import compute

from control import pseudonyms
from control.arrow_thread import in_arrow_thread
from control.errors import ApiCode, ApiError
from control.export import (
    EXPORTED,
    SUMMED,
    Ended,
    ExportQuery,
    Manifest,
    Snapshot,
    Sums,
)
from control.export_files import Encoder, encoder
from control.export_rows import ExportRows
from control.pseudonyms import Keys, Pseudonyms
from control.usage import camel

DEFAULT_AT_ONCE: Final = 4
_OF_ONE_CALLER: Final = 2
_MAX_KEPT: Final = 256
_MAX_KEYS: Final = 50_000
_ID: Final = EXPORTED.index("id")
_USER: Final = EXPORTED.index("user_id")

_Key = tuple[object, ...]


class Exports:
    """All exports of this process."""

    def __init__(
        self, rows: ExportRows, names: Pseudonyms, at_once: int = DEFAULT_AT_ONCE
    ) -> None:
        self._rows = rows
        self._names = names
        self._at_once = at_once
        self._running: Counter[str] = Counter()
        self._manifests: OrderedDict[_Key, Manifest] = OrderedDict()

    async def fixed(self, query: ExportQuery) -> ExportQuery:
        """The same of a snapshot: of now, when it names none."""
        if query.snapshot is not None:
            return query
        return replace(query, snapshot=await self._rows.snapshot())

    def manifest_of(self, query: ExportQuery) -> Manifest | None:
        """When its file was made here not long ago."""
        return self._manifests.get(_key(query))

    async def manifest(self, query: ExportQuery, caller: str) -> Manifest:
        """Of the file that `query`, which names a snapshot, asks for.

        Raises:
            ApiError: 429, too many exports.
        """
        async with aclosing(self.stream(replace(query, skip=0), caller)) as stream:
            async for _ in stream:
                pass
        return self._manifests[_key(query)]

    async def stream(
        self, query: ExportQuery, caller: str, ended: Ended | None = None
    ) -> AsyncGenerator[bytes, None]:
        """The file's bytes; the first only when the first rows were read.

        Raises:
            ApiError: 429, too many exports.
        """
        async with self._turn(caller):
            try:
                async with aclosing(self._content(query)) as content:
                    async for some in content:
                        yield some
            except BaseException as error:
                if ended is not None:
                    ended(None, type(error).__name__)
                raise
            if ended is not None:
                ended(self._manifests[_key(query)], "")

    async def _content(self, query: ExportQuery) -> AsyncGenerator[bytes, None]:
        snapshot = query.snapshot or Snapshot({})
        file, sums = _File(encoder(query.format), query.skip), Sums()
        rows = self._named(query, self._rows.rows(query, snapshot))
        async with aclosing(_ahead(rows)) as pieces:
            async for piece in pieces:
                _add(sums, piece)
                content = await in_arrow_thread(file.add, piece)
                if content:
                    yield content
        yield await in_arrow_thread(file.end, sums, snapshot)
        made = Manifest(
            query=query,
            snapshot=snapshot,
            sums=sums,
            bytes=file.bytes,
            sha256=file.digest.hexdigest(),
        )
        self._keep(query, made)

    async def _named(
        self, query: ExportQuery, rows: AsyncIterator[pa.RecordBatch]
    ) -> AsyncGenerator[pa.RecordBatch, None]:
        """With pseudonyms where they are wanted."""
        known: dict[str, bytes | None] = {}
        async for piece in rows:
            if not query.pseudonymize:
                yield piece
                continue
            users = set(piece.column(_USER).to_pylist()) - {None}
            if len(known) > _MAX_KEYS:
                known.clear()
            if new := sorted(users - known.keys()):
                known.update(await self._names.keys(new))
            yield _pseudonymous(piece, known)

    @asynccontextmanager
    async def _turn(self, caller: str) -> AsyncIterator[None]:
        if (
            self._running.total() >= self._at_once
            or self._running[caller] >= _OF_ONE_CALLER
        ):
            raise ApiError(
                429,
                ApiCode.TOO_MANY_EXPORTS,
                f"At most {_OF_ONE_CALLER} exports of one caller and {self._at_once} "
                "in all run at once; try again when one has ended",
            )
        self._running[caller] += 1
        try:
            yield
        finally:
            self._running[caller] -= 1
            if not self._running[caller]:
                del self._running[caller]

    def _keep(self, query: ExportQuery, manifest: Manifest) -> None:
        self._manifests[_key(query)] = manifest
        while len(self._manifests) > _MAX_KEPT:
            self._manifests.popitem(last=False)


class _File:
    """Counts and digests the whole file, and gives out what is not to be skipped."""

    def __init__(self, encoder_: Encoder, skip: int) -> None:
        self._encoder = encoder_
        self._skip = skip
        self.digest = hashlib.sha256()
        self.bytes = 0
        self._begun = self._encoder.begin()

    def add(self, rows: pa.RecordBatch) -> bytes:
        return self._take(self._encoder.add(rows))

    def end(self, sums: Sums, snapshot: Snapshot) -> bytes:
        return self._take(self._encoder.end(sums, snapshot.through))

    def _take(self, more: bytes) -> bytes:
        content, self._begun = self._begun + more, b""
        self.digest.update(content)
        known = min(max(self._skip - self.bytes, 0), len(content))
        self.bytes += len(content)
        return content[known:]


def _add(sums: Sums, rows: pa.RecordBatch) -> None:
    sums.rows += rows.num_rows
    for name in SUMMED:
        more = compute.sum(rows.column(camel(name))).as_py() or 0
        setattr(sums, name, getattr(sums, name) + more)


def _pseudonymous(rows: pa.RecordBatch, keys: Keys) -> pa.RecordBatch:
    users, ids = rows.column(_USER).to_pylist(), rows.column(_ID).to_pylist()
    named = {user: pseudonyms.of_user(user, keys[user]) for user in {*users} - {None}}
    arrays = list(rows.columns)
    arrays[_USER] = pa.array([named.get(user) for user in users], pa.string())
    hidden = [
        id_ if user is None else pseudonyms.of_row(UUID(id_), keys[user])
        for user, id_ in zip(users, ids, strict=True)
    ]
    texts = [None if one is None else str(one) for one in hidden]
    arrays[_ID] = pa.array(texts, pa.string())
    return pa.RecordBatch.from_arrays(arrays, schema=rows.schema)


async def _ahead(
    rows: AsyncIterator[pa.RecordBatch],
) -> AsyncGenerator[pa.RecordBatch, None]:
    """The same; the next piece is read while one is worked on."""
    next_ = asyncio.ensure_future(anext(rows, None))
    try:
        while (piece := await next_) is not None:
            next_ = asyncio.ensure_future(anext(rows, None))
            yield piece
    finally:
        next_.cancel()
        await asyncio.gather(next_, return_exceptions=True)


def _key(query: ExportQuery) -> _Key:
    """All that decides which bytes the file has."""
    parameters = tuple(query.parameters().items())
    return parameters, query.chosen.user_ids, query.hidden, str(query.snapshot)

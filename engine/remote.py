"""Files behind http(s), s3 and gs: what is there, and bounded downloads; every outcome is a MediaError.

http is spoken through aiohttp directly: fsspec's own http turns timeouts and server errors into "not found", and
follows redirects anywhere. s3 and gs go through fsspec (s3fs, gcsfs), with the credentials that those find in the
environment.
All run in fsspec's event loop, so that one deadline ends whatever hangs: connecting, headers that drip, or the body.
"""

import asyncio
import importlib
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urljoin, urlsplit

from ..shards.errors import ReelmillError, UsageError
from ..shards.files import storage_error
from .errors import MediaError

T = TypeVar("T")

TRIES = 3
RETRY_SECONDS = 0.5
STALL_SECONDS = 30.0
PIECE_BYTES = 1 << 20
RANGE_BYTES = 1 << 24
REDIRECTS = 5
_PACKAGES = {"http": "aiohttp", "https": "aiohttp", "s3": "s3fs", "gs": "gcsfs"}
_OUTAGES = frozenset(
    {
        "botocore.exceptions.HTTPClientError",
        "botocore.exceptions.ConnectionError",
        "aiohttp.client_exceptions.ClientError",
    }
)
_UNKNOWN = "?"  # a size that the server does not say
_PASSING = frozenset({408, 425, 429})  # and every 5xx


@dataclass(frozen=True, slots=True)
class Found:
    """What a server says about a file."""

    version: str
    """The etag, else size and modification date."""
    size: int | None


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to download."""

    url: str
    byte_range: tuple[int, int] | None
    """(offset, size), or the whole."""
    max_bytes: int
    version: str | None
    """What the file's version must be."""


def look(url: str, timeout_seconds: float) -> Found:
    """What is there, without reading it; raises as `fetch.version_of` does."""
    if _need(url).startswith("http"):
        return _run(lambda: _tried(lambda: _http_look(url)), timeout_seconds)
    return _run(lambda: _store_look(url), timeout_seconds)


def download(wanted: Wanted, path: Path, timeout_seconds: float) -> None:
    """Write the file's bytes to `path`; raises as `fetch.local_copy` does."""
    if _need(wanted.url).startswith("http"):
        _run(lambda: _tried(lambda: _http_download(wanted, path)), timeout_seconds)
    else:
        _run(lambda: _store_download(wanted, path), timeout_seconds)


def _library(name: str) -> Any:
    """An optional package, imported when it is used; checkers see no types where it is not installed."""
    return importlib.import_module(name)


def _need(url: str) -> str:
    """The URL's scheme, when the package that reads it is there."""
    scheme = url.partition("://")[0]
    package = _PACKAGES[scheme]
    try:
        _library(package)
    except ModuleNotFoundError as error:
        raise UsageError(
            f"reading {scheme}:// inputs needs the package {package} (no module {error.name}): pip install {package}"
        ) from None
    return scheme


def _run(work: Callable[[], Coroutine[Any, Any, T]], timeout_seconds: float) -> T:
    asyn = _library("fsspec.asyn")
    try:
        result: T = asyn.sync(asyn.get_loop(), work, timeout=timeout_seconds)
    except asyn.FSTimeoutError:
        raise MediaError("network", f"not finished within {timeout_seconds:g} s") from None
    return result


class _PassingError(Exception):
    """The server may do better next time."""


async def _tried(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    aiohttp = _library("aiohttp")
    for number in range(TRIES):
        try:
            return await work()
        except ValueError as error:  # the URL, or the one it leads to
            raise MediaError("unreadable", f"not a URL: {error}") from None
        except (_PassingError, aiohttp.ClientError, OSError) as error:  # a TimeoutError is an OSError
            detail = f"{error or type(error).__name__}, tried {TRIES} times"
        if number + 1 < TRIES:
            await asyncio.sleep(RETRY_SECONDS * 4**number)
    raise MediaError("network", detail)


@asynccontextmanager
async def _answer(method: str, url: str, headers: dict[str, str]) -> AsyncIterator[Any]:
    """The answer of the server after redirects within it; its body is not read yet."""
    aiohttp, yarl = _library("aiohttp"), _library("yarl")
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=STALL_SECONDS, sock_read=STALL_SECONDS)
    # compressed transfer would hide the size, and give an etag of its own
    headers = {"Accept-Encoding": "identity"} | headers
    async with aiohttp.ClientSession(timeout=timeout, trust_env=True, auto_decompress=False) as session:
        for _ in range(REDIRECTS + 1):
            ready = url.isascii() and not any(mark in url for mark in ' "<>')  # signed URLs must stay as they are
            target = yarl.URL(url, encoded=True) if ready else url
            async with session.request(method, target, headers=headers, allow_redirects=False) as answer:
                if answer.status not in (301, 302, 303, 307, 308):
                    _check_status(answer.status)
                    yield answer
                    return
                url = _redirected(url, answer.headers.get("Location", ""))
    raise MediaError("unreadable", f"more than {REDIRECTS} redirects")


def _check_status(status: int) -> None:
    if status in _PASSING or status >= 500:
        raise _PassingError(f"HTTP {status}")
    if status in (404, 410):
        raise MediaError("missing", f"HTTP {status}")
    if status == 416:
        raise MediaError("damaged", "the file ends before this video begins (HTTP 416)")
    if status not in (200, 206):
        raise MediaError("unreadable", f"HTTP {status}")


def _redirected(url: str, location: str) -> str:
    """Where a redirect leads; only to the same server, or from its http to its https."""
    target = urljoin(url, location)
    old, new = urlsplit(url), urlsplit(target)
    ports = {"http": 80, "https": 443}
    here = (old.scheme, old.hostname, old.port or ports[old.scheme])
    there = (new.scheme, new.hostname, new.port or ports.get(new.scheme))
    if there not in (here, ("https", old.hostname, 443 if here[2] == 80 else here[2])):
        raise MediaError(
            "unreadable", f"redirects to another server, {new.scheme}://{new.netloc}: name that URL itself"
        )
    return target


async def _http_look(url: str) -> Found:
    try:
        async with _answer("HEAD", url, {}) as answer:
            return _http_found(answer)
    except MediaError as refused:
        if refused.reason != "unreadable":
            raise
    # some servers forbid HEAD, and a signed URL allows one method only
    try:
        async with _answer("GET", url, {"Range": "bytes=0-0"}) as answer:
            return _http_found(answer)
    except MediaError as error:
        if error.reason == "damaged":  # no first byte
            return Found("0:", 0)
        raise


def _http_found(answer: Any) -> Found:
    size = answer.content_length
    if answer.status == 206:
        total = answer.headers.get("Content-Range", "").rpartition("/")[2]
        size = int(total) if total.isdigit() else None
    etag = answer.headers.get("ETag", "").strip()
    return Found(etag or f"{_UNKNOWN if size is None else size}:{answer.headers.get('Last-Modified', '')}", size)


async def _http_download(wanted: Wanted, path: Path) -> None:
    headers, size = {}, None
    if wanted.byte_range is not None:
        offset, size = wanted.byte_range
        if not size:
            return
        headers["Range"] = f"bytes={offset}-{offset + size - 1}"
    async with _answer("GET", wanted.url, headers) as answer:
        if size is not None and answer.status != 206:
            raise MediaError("unreadable", "the server gives no byte ranges")
        _check_version(wanted.version, _http_found(answer).version)
        if (answer.content_length or 0) > wanted.max_bytes:
            raise MediaError("limit", f"{answer.content_length} bytes, at most {wanted.max_bytes} are taken")
        with _Output(path, wanted.max_bytes) as output:
            async for piece in answer.content.iter_chunked(PIECE_BYTES):
                output.write(piece)
    if size is not None and output.written < size:
        raise MediaError("damaged", f"the file ends {size - output.written} bytes before the end of this video")


async def _store_look(url: str) -> Found:
    return await _stored(url, lambda store: _store_found(store, url))


async def _store_download(wanted: Wanted, path: Path) -> None:
    async def work(store: Any) -> None:
        found = await _store_found(store, wanted.url)
        _check_version(wanted.version, found.version)
        assert found.size is not None
        offset, size = wanted.byte_range or (0, found.size)
        if size > wanted.max_bytes:
            raise MediaError("limit", f"{size} bytes, at most {wanted.max_bytes} are taken")
        if offset + size > found.size:
            lacking = offset + size - found.size
            raise MediaError("damaged", f"the file ends {lacking} bytes before the end of this video")
        with _Output(path, wanted.max_bytes) as output:
            for start in range(offset, offset + size, RANGE_BYTES):
                end = min(start + RANGE_BYTES, offset + size)
                piece = await store._cat_file(wanted.url, start=start, end=end)
                if len(piece) != end - start:
                    raise MediaError("network", f"got {len(piece)} of {end - start} bytes")
                output.write(piece)
        _check_version(found.version, (await _store_found(store, wanted.url)).version)

    await _stored(wanted.url, work)


async def _stored(url: str, work: Callable[[Any], Coroutine[Any, Any, T]]) -> T:
    """Do what is to be done with a store that tries again by itself; its errors become ours."""
    try:
        return await work(_library("fsspec").filesystem(url.partition("://")[0], use_listings_cache=False))
    except (MediaError, ReelmillError):
        raise
    except FileNotFoundError:
        raise MediaError("missing", "no such object") from None
    except PermissionError as error:
        raise MediaError("unreadable", str(error)) from None
    except Exception as error:  # each store has an error tree of its own
        names = {f"{kind.__module__}.{kind.__qualname__}" for kind in type(error).__mro__}
        passing = isinstance(error, OSError) or names & _OUTAGES or str(getattr(error, "code", "")).startswith("5")
        detail = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise MediaError("network" if passing else "unreadable", detail) from None


async def _store_found(store: Any, url: str) -> Found:
    info = await store._info(url)
    if info["type"] != "file":
        raise MediaError("unreadable", f"must be a file, but is a {info['type']}")
    etag = str(info.get("ETag") or info.get("etag") or "").strip('"')
    modified = info.get("LastModified") or info.get("updated") or ""
    return Found(etag or f"{info['size']}:{modified}", info["size"])


def _check_version(wanted: str | None, found: str) -> None:
    unknown = f"{_UNKNOWN}:"
    if wanted is not None and wanted != found and not wanted.startswith(unknown) and not found.startswith(unknown):
        raise MediaError("changed", f"the file changed while it was being read: {wanted} became {found}")


class _Output:
    """The file that a download fills, from its beginning with every try."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        self._path, self._max_bytes = path, max_bytes
        self.written = 0

    def __enter__(self) -> "_Output":
        self._file = self._on_disk(lambda: open(self._path, "wb"))  # noqa: SIM115 (closed below)
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self._on_disk(self._file.close)

    def write(self, piece: bytes) -> None:
        self.written += len(piece)
        if self.written > self._max_bytes:
            raise MediaError("limit", f"more than {self._max_bytes} bytes")
        self._on_disk(lambda: self._file.write(piece))

    def _on_disk(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except OSError as error:  # not the network's
            raise storage_error(self._path, error) from error

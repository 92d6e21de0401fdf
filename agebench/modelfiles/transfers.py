"""What a download says to the network, and how its failures are told.

Imported only to download: `requests` takes long to import.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

import requests

from agebench.modelfiles.downloads import CHUNK_BYTES, Sink, SourceError

TIMEOUT_S: tuple[float, float] = (10.0, 30.0)
"""Longest wait for a connection, and between two pieces of data, in seconds."""

USER_AGENT = "agebench (model file download)"


def check_url(url: str) -> None:
    """Refuse a malformed address, without showing it: it may contain a password.

    Raises:
        SourceError: it is malformed.
    """
    try:
        if not urlsplit(url).hostname or urlsplit(url).port == 0:
            raise ValueError
        requests.Request("GET", url).prepare()
    except (ValueError, requests.RequestException) as error:
        raise SourceError(
            "the address is malformed: expected one such as https://HOST:PORT/FOLDER", "failed"
        ) from error


def _system_error(error: BaseException) -> OSError | None:
    """Return the socket's own error, below those of the libraries that wrap it."""
    link: BaseException | None = error
    while link is not None:
        if isinstance(link, OSError) and not isinstance(link, requests.RequestException):
            return link
        link = link.__cause__ or link.__context__
    return None


def _network_reason(error: Exception, received_bytes: int, size_bytes: int) -> str:
    so_far = f"after {received_bytes:,} of {size_bytes:,} bytes"
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"the server says {error.response.status_code} {error.response.reason}".rstrip()
    if not isinstance(error, requests.RequestException):
        return f"its answer can't be read ({_without_addresses(error)})"
    if isinstance(error, requests.ConnectTimeout):
        return f"no connection within {TIMEOUT_S[0]:g} s"
    cause = _system_error(error)
    if isinstance(cause, TimeoutError):
        return f"no data for {TIMEOUT_S[1]:g} s, {so_far}"
    if received_bytes or isinstance(error, requests.exceptions.ChunkedEncodingError):
        return f"cut off {so_far}"
    return f"no answer ({(cause and cause.strerror) or _without_addresses(cause or error)})"


def _without_addresses(error: BaseException) -> str:
    """Return a library's message without addresses, which may contain a password."""
    return re.sub(r"\S*(?:://|@|\?)\S*|url: \S+", "...", str(error))


def transfer(url: str, sink: Sink, size_bytes: int) -> None:
    """Write what an address gives to a sink.

    Raises:
        SourceError: the source failed, or gave more than the sink accepts.
        CacheFolderError: raised by the sink.
    """
    # Compression gains nothing for weights, and a small body could unpack to a huge one.
    headers = {"Accept-Encoding": "identity", "User-Agent": USER_AGENT}
    try:
        with requests.get(url, headers=headers, timeout=TIMEOUT_S, stream=True) as response:
            response.raise_for_status()
            for piece in response.iter_content(CHUNK_BYTES):
                sink.write(piece)
    except (requests.RequestException, ValueError) as error:  # ValueError: redirected to no address
        reason = _network_reason(error, sink.received_bytes, size_bytes)
        raise SourceError(reason, "failed") from error

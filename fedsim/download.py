"""Downloading a file over HTTP: from the first place that has it, taken up where it broke off, whole or not at all.

Proxies are those of the environment (``http_proxy``, ``https_proxy``, ``no_proxy``), as the standard library reads them.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from fedsim.errors import DataError
from fedsim.files import SHARED, open_plain

CHUNK_BYTES = 1 << 18
TIMEOUT_S = 30
AGENT = "fedsim"
Progress = Callable[[int, int | None], None]
"""Told how many bytes there are, and how many there will be, if the server says so."""


class DownloadError(DataError):
    """A file could not be had from one place.

    Attributes:
        url: the place.
        reason: why not.
    """

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(f"{url}: {reason}")
        self.url, self.reason = url, reason


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but not from an encrypted connection to an open one, and to nothing but HTTP."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        """Refuse a place that is less safe than the one that was asked."""
        old, new = urlsplit(req.full_url).scheme, urlsplit(newurl).scheme
        if new not in ("http", "https") or (old == "https" and new == "http"):
            fp.close()
            raise DownloadError(req.full_url, f"redirects to {newurl}, which is not encrypted or not HTTP")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def download(urls: Sequence[str], target: Path, sha256: str, at_most: int, progress: Progress) -> None:
    """Put a file at ``target``: what came of it before stands beside it, as ``.part``, and is gone on with.

    Args:
        urls: places that have it, the first that answers is taken.
        target: where it is to be; there is nothing until it is whole.
        sha256: of the file, or "" where it is not known.
        at_most: bytes it may have.
        progress: told as bytes come.

    Raises:
        DownloadError: of the last place, with the reasons of the others, if none has the file as it ought to be.
    """
    part = target.with_name(f"{target.name}.part")
    reasons: list[DownloadError] = []
    for url in urls:
        try:
            _fetch(url, part, at_most, progress)
            _check(url, part, sha256)
        except DownloadError as error:
            reasons.append(error)
            continue
        part.replace(target)
        return
    raise DownloadError(reasons[-1].url, "; ".join([reasons[-1].reason, *map(str, reasons[:-1])]))


def _fetch(url: str, part: Path, at_most: int, progress: Progress) -> None:
    """Append to a part what is missing of it."""
    there = part.stat().st_size if part.is_file() else 0
    try:
        with _open(url, there) as answer:
            resumed = answer.status == 206
            whole = _length(answer, there if resumed else 0)
            handle = open_plain(part, os.O_WRONLY | os.O_CREAT | (os.O_APPEND if resumed else 0), mode=SHARED)
            with open(handle, "ab" if resumed else "wb") as file:
                if not resumed:
                    file.truncate(0)  # only now: it is a plain file of ours
                have = _copy(answer, file, there if resumed else 0, whole, at_most, url, progress)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416 and there:  # nothing is left to send of it, or it is another file: begin anew
            part.unlink()
            _fetch(url, part, at_most, progress)
            return
        raise DownloadError(url, f"answers {error.code} ({error.reason})") from error
    except urllib.error.URLError as error:
        raise DownloadError(url, f"cannot be reached ({error.reason})") from error
    except (http.client.HTTPException, OSError) as error:
        raise DownloadError(url, f"broke off ({error or type(error).__name__}); the same command goes on") from error
    if whole is not None and have != whole:
        raise DownloadError(url, f"broke off after {have:,} of {whole:,} bytes; the same command goes on")


def _open(url: str, there: int) -> contextlib.closing[Any]:
    headers = {"User-Agent": AGENT, "Accept-Encoding": "identity"}
    if there:
        headers["Range"] = f"bytes={there}-"
    opener = urllib.request.build_opener(_SafeRedirects)
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 (urls stand in the sources; redirects are checked)
    return contextlib.closing(opener.open(request, timeout=TIMEOUT_S))


def _length(answer: Any, there: int) -> int | None:
    """Bytes of the whole file, if the server says so."""
    length = answer.headers.get("Content-Length", "")
    return there + int(length) if length.isdigit() else None


def _copy(
    answer: Any, file: IO[bytes], have: int, whole: int | None, at_most: int, url: str, progress: Progress
) -> int:
    if whole is not None and whole > at_most:
        raise DownloadError(url, f"has {whole:,} bytes; at most {at_most:,} were expected")
    while chunk := answer.read(CHUNK_BYTES):
        have += len(chunk)
        if have > at_most:
            raise DownloadError(url, f"sends more than the {at_most:,} bytes that were expected")
        file.write(chunk)
        progress(have, whole)
    return have


def _check(url: str, part: Path, sha256: str) -> None:
    if not sha256:
        return
    with part.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        part.unlink()
        raise DownloadError(url, f"another file than expected: its sha256 is {found}, not {sha256}")

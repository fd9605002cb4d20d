"""Tell in one line what went wrong with the Hub, and whether to try again."""

from __future__ import annotations

import errno
import re
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

import requests
from huggingface_hub import constants, errors, get_token
from urllib3.exceptions import MaxRetryError

from retort.errors import ConversionError, InputError, RetortError

LONGEST_WAIT = 30.0  # seconds; a Hub that asks for more is reported, not waited for
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class HubUnreachableError(ConversionError):
    """No answer from the Hub: a cached copy may serve instead."""


class BrokenDownloadError(OSError):
    """A download ended before all files were there."""


@dataclass(frozen=True)
class Request:
    """What was asked of the Hub.

    Attributes:
        model_id: The Hub id.
        revision: The branch, tag or commit; None for the default branch.
        has_token: Whether an access token was sent.
        cache_dir: Where downloads are kept.
        downloading: Whether files were being downloaded, not only listed.
    """

    model_id: str
    revision: str | None
    has_token: bool
    cache_dir: str
    downloading: bool = False


def endpoint() -> str:
    """Return the Hub's address as messages may show it: without a password in it."""
    parts = urlsplit(constants.ENDPOINT)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def has_token(token: str | None) -> bool:
    """Return whether huggingface_hub sends a token: this one, HF_TOKEN or the stored login."""
    return bool(token or (get_token() and not constants.HF_HUB_DISABLE_IMPLICIT_TOKEN))


def cause_of(error: BaseException) -> BaseException:
    """Return the failure behind huggingface_hub's "not to be had" and "error while uploading"."""
    is_wrapper = isinstance(error, errors.LocalEntryNotFoundError | RuntimeError)
    if is_wrapper and error.__cause__ is not None:
        return cause_of(error.__cause__)
    return error


def is_transient(error: BaseException, request: Request) -> bool:
    """Return whether the same request may succeed a little later."""
    if isinstance(error, requests.HTTPError):
        status = status_of(error)
        return status == requests.codes.too_many_requests or status >= 500
    if isinstance(error, requests.JSONDecodeError):
        return False
    if isinstance(error, requests.RequestException):
        return request.downloading or not _no_connection(error)
    return isinstance(error, BrokenDownloadError) or (
        isinstance(error, OSError) and error.errno is None
    )


def wait_before_retry(error: BaseException, wait: float) -> float:
    """Return how many seconds to wait: what the Hub asks for in ``Retry-After``, else ``wait``."""
    response = getattr(error, "response", None)
    asked = response.headers.get("Retry-After", "") if response is not None else ""
    return min(float(asked), LONGEST_WAIT) if asked.isdecimal() else wait


def reason(error: BaseException) -> str:
    """Return in two or three words why a request is made again."""
    return (
        f"HTTP {status_of(error)}" if isinstance(error, requests.HTTPError) else "connection lost"
    )


def explain(error: BaseException, request: Request) -> RetortError:
    """Return the error to show for a failure of ``huggingface_hub``."""
    for kinds, told in _EXPLANATIONS:
        if isinstance(error, kinds):
            return told(error, request)
    return ConversionError(
        f"{request.model_id}: the download failed ({one_line(error)}); run again"
    )


def _no_connection(error: requests.RequestException) -> bool:
    return bool(error.args) and isinstance(error.args[0], MaxRetryError)


def status_of(error: requests.HTTPError) -> int:
    """Return the HTTP status of an answer, 0 if there was none."""
    return int(error.response.status_code) if error.response is not None else 0


def without_addresses(text: str) -> str:
    """Return a text without addresses, which can hold a password or a signature."""
    return re.sub(r"\w+://\S+|/\S*\?\S*", "...", text)


def one_line(text: object) -> str:
    """Return the beginning of a message: printable, on one line, without addresses."""
    told = without_addresses(str(text))
    return " ".join("".join(sign if sign.isprintable() else " " for sign in told).split())[:200]


def _gated(_: BaseException, request: Request) -> RetortError:
    if request.has_token:
        who = "the account of this token has no access to it"
    else:
        who = "it needs an account with access: pass --token or set HF_TOKEN"
    page = f"{endpoint()}/{request.model_id}"
    return InputError(f"{request.model_id}: a gated model; {who}; access is asked for at {page}")


def _not_found(_: BaseException, request: Request) -> RetortError:
    if request.has_token:
        hint = "check the spelling, and that the token's account may read it if it is private"
    else:
        hint = "check the spelling; a private model needs --token or HF_TOKEN"
    return InputError(
        f"{request.model_id}: not a local folder, and not found on {endpoint()}; {hint}"
    )


def _bad_revision(_: BaseException, request: Request) -> RetortError:
    page = f"{endpoint()}/{request.model_id}/commits/main"
    return InputError(
        f"{request.model_id}: no branch, tag or commit called {request.revision!r}; see {page}"
    )


def _entry_missing(_: BaseException, request: Request) -> RetortError:
    return ConversionError(f"{request.model_id}: a file that the Hub lists is gone; run again")


def _http(error: BaseException, request: Request) -> RetortError:
    status = status_of(error) if isinstance(error, requests.HTTPError) else 0
    if status == requests.codes.unauthorized:
        return InputError(
            f"{request.model_id}: {endpoint()} refuses the access token (HTTP 401); make a new one "
            f"at {endpoint()}/settings/tokens and pass it with --token or HF_TOKEN"
        )
    if status == requests.codes.forbidden:
        return InputError(
            f"{request.model_id}: {endpoint()} forbids access (HTTP 403); check the model's page, "
            f"and the token's permissions at {endpoint()}/settings/tokens"
        )
    if status < 500 and status != requests.codes.too_many_requests:
        return _not_a_hub(error, request)
    if status == requests.codes.too_many_requests:
        advice = (
            "too many requests: wait some minutes and run again, with --token for a higher limit"
        )
    else:
        advice = "run again later; HF_HUB_OFFLINE=1 uses a copy that is already cached"
    return ConversionError(
        f"{request.model_id}: {endpoint()} answered HTTP {status} several times; {advice}"
    )


def _network(error: BaseException, request: Request) -> RetortError:
    if request.downloading:
        return ConversionError(
            f"{request.model_id}: the download from {endpoint()} broke off several times "
            f"({type(error).__name__}); run again to go on where it stopped"
        )
    return HubUnreachableError(
        f"{request.model_id}: not a local folder, and {endpoint()} cannot be reached "
        f"({type(error).__name__}); check the network, the proxy settings and HF_ENDPOINT"
    )


def _not_a_hub(error: BaseException, request: Request) -> RetortError:
    return ConversionError(
        f"{request.model_id}: {endpoint()} does not answer as the Hub does ({one_line(error)}); "
        "check HF_ENDPOINT, and whether a login page of the network stands in between"
    )


def _disk(error: BaseException, request: Request) -> RetortError:
    problem = error if isinstance(error, OSError) else OSError()
    if problem.errno is None:
        return _network(error, request)
    reason = "the disk is full" if problem.errno in _FULL else problem.strerror
    return ConversionError(
        f"{request.model_id}: cannot write to the download cache {request.cache_dir} ({reason}); "
        "free some space there or pass another folder with --cache_dir"
    )


_Kinds = type[BaseException] | tuple[type[BaseException], ...]
# The first match counts, so subclasses stand before what they derive from.
_EXPLANATIONS: tuple[tuple[_Kinds, Callable[[BaseException, Request], RetortError]], ...] = (
    (errors.GatedRepoError, _gated),
    (errors.RepositoryNotFoundError, _not_found),
    (errors.RevisionNotFoundError, _bad_revision),
    (errors.EntryNotFoundError, _entry_missing),
    (requests.HTTPError, _http),
    ((requests.JSONDecodeError, errors.FileMetadataError), _not_a_hub),
    (requests.RequestException, _network),
    (OSError, _disk),
)

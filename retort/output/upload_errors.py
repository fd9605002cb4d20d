"""Tell in one line why an upload failed, and whether to try again."""

from __future__ import annotations

from dataclasses import dataclass, field
from http import HTTPStatus

import requests
from huggingface_hub import constants, errors

from retort.errors import ConversionError, InputError, RetortError
from retort.source.hub_errors import endpoint, one_line, status_of

_TRANSIENT = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.CONFLICT, HTTPStatus.PRECONDITION_FAILED)


@dataclass(frozen=True)
class Destination:
    """Where files are uploaded to.

    Attributes:
        repo_id: The repository, ``account/name``; created if it is not there.
        private: Whether it must be private.
        token: The access token; None for what huggingface_hub finds itself. Never shown.
    """

    repo_id: str
    private: bool = False
    token: str | None = field(default=None, repr=False)


def is_transient(error: BaseException) -> bool:
    """Return whether the same upload may succeed a little later.

    So it may after a commit of somebody else, and where an address to upload to ran out.
    """
    if isinstance(error, requests.HTTPError):
        status = status_of(error)
        return status in _TRANSIENT or status >= 500 or _is_outdated_address(error)
    # hf_xet has only RuntimeError for what fails; a proxy's page of an error is no JSON.
    return isinstance(error, requests.RequestException | RuntimeError) or (
        isinstance(error, OSError) and error.errno is None
    )


def explain(error: BaseException, destination: Destination) -> RetortError:
    """Return the error to show for a failure of ``huggingface_hub``."""
    repo_id = destination.repo_id
    if isinstance(error, requests.HTTPError):
        return _refused(status_of(error), getattr(error, "server_message", None), repo_id)
    if isinstance(error, errors.XetAuthorizationError):
        return _refused(HTTPStatus.FORBIDDEN, str(error), repo_id)
    if isinstance(error, ValueError | KeyError):
        return ConversionError(
            f"{repo_id}: {endpoint()} does not answer as the Hub does ({one_line(error)}); check "
            "HF_ENDPOINT, and whether a login page of the network stands in between"
        )
    if isinstance(error, OSError) and error.errno is not None:
        return InputError(f"{error.filename}: cannot be read ({error.strerror}); check the file")
    words = f": {one_line(error)}" if isinstance(error, RuntimeError) else ""
    return ConversionError(
        f"{repo_id}: the upload to {endpoint()} broke off several times ({type(error).__name__}"
        f"{words}); check the network, the proxy settings and HF_ENDPOINT"
    )


def _refused(status: int, words: str | None, repo_id: str) -> RetortError:
    kind, advice = _ADVICE.get(status, _LATER if status >= 500 else _OTHER)
    answer = f"{endpoint()} answered HTTP {status}" + (f" ({one_line(words)})" if words else "")
    return kind(f"{repo_id}: {answer}; {advice.format(page=endpoint() + '/settings/tokens')}")


def _is_outdated_address(error: requests.HTTPError) -> bool:
    # Large files go to a store of their own, to addresses that hold for some minutes.
    at_store = error.response is not None and not error.response.url.startswith(constants.ENDPOINT)
    return at_store and status_of(error) == HTTPStatus.FORBIDDEN


_LATER = (ConversionError, "it failed several times: try again later")
_OTHER = (InputError, "correct what it complains of")
_UNKNOWN_TOKEN = (
    "it refuses the access token: make one with write permission at {page} and pass it with "
    "--token or HF_TOKEN"
)
_NO_PERMISSION = (
    "the token may not write there: choose a repository of your own account, or give the token "
    "write permission at {page}"
)
_NOT_SEEN = (
    "the token's account sees no such account or repository: check the spelling, and the token at "
    "{page}"
)
_MOVING = (
    "somebody else keeps changing the repository, or the token may only open pull requests: see "
    "{page}"
)
_ADVICE: dict[int, tuple[type[RetortError], str]] = {
    HTTPStatus.UNAUTHORIZED: (InputError, _UNKNOWN_TOKEN),
    HTTPStatus.FORBIDDEN: (InputError, _NO_PERMISSION),
    HTTPStatus.NOT_FOUND: (InputError, _NOT_SEEN),
    HTTPStatus.CONFLICT: (ConversionError, _MOVING),
    HTTPStatus.PRECONDITION_FAILED: (ConversionError, _MOVING),
    HTTPStatus.TOO_MANY_REQUESTS: (ConversionError, "too many requests: wait some minutes"),
}

"""Every error the API can answer with, in one table (the contract, "Errors").

ImageKit's calls answer with ``message`` and ``help``; all others with RFC 9457 problem details, made of the same table (:func:`problem`).

``message`` is ImageKit's own text wherever it is known, because clients compare it. ``help`` says what to do; where a fault has
a ``detail``, that stands before it and says what was wrong with this very request.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from http import HTTPStatus

import msgspec

from agezero.http.reply import Header, Reply
from agezero.wire import FieldError, ProblemDetails

DOCS = "See docs/API.md#errors."
BODY_BYTES_MAX = 64 * 1024
"""Longest request body of ImageKit's call. A URL has at most 8 KiB, JSON may escape each byte as six."""

PURGE_BYTES_MAX = 1024 * 1024
"""Longest request body of the native call: a thousand URLs of a kilobyte."""
PROBLEM: tuple[Header, ...] = ((b"content-type", b"application/problem+json"), (b"cache-control", b"no-store"))


class Problem(msgspec.Struct, frozen=True):
    """The body of every error."""

    message: str
    help: str


class Fault(Enum):
    """name = status, message, help."""

    NO_URL = (400, "Your request is missing URL parameter.", 'Send the URL to purge as JSON, {"url": "https://…"}, or as a form field url=…')
    INVALID_URL = (400, "Invalid url", "Send one absolute http or https URL of at most 8 KiB, as a string.")
    NOT_PURGEABLE = (400, "The URL is not valid for cache purging.", "Purge a URL under one of its endpoints, with an allowed wildcard or none.")
    INVALID_BODY = (400, "Your request body is not valid.", "Send what GET /openapi.json describes, encoded in UTF-8, in one go.")
    INVALID_PARAMETER = (400, "A parameter of the request is not valid.", "GET /openapi.json describes every parameter.")
    UNKNOWN_REQUEST = (400, "No request found for this requestId.", "Use the requestId that a purge on this service was answered with.")
    NO_KEY = (
        401,
        "Your request does not contain private API key.",
        "Send the header Authorization: Basic with the private key as user name and an empty password (curl -u private_…:).",
    )
    WRONG_KEY = (403, "Your account cannot be authenticated.", "Check the private key; `agezero keys list` names the keys that are valid.")
    EXPIRED_KEY = (403, "Your request contains expired private API key.", "Make a new key with `agezero keys create`.")
    DISABLED = (403, "Your account is disabled.", "The operator can enable the key again with `agezero keys enable`.")
    NOT_PERMITTED = (403, "Your private API key is not permitted to purge.", "Use a key with the permission purge; this one can only read statuses.")
    NO_SUCH_PATH = (404, "The requested path does not exist.", "GET /openapi.json lists what this service serves.")
    NO_SUCH_EDGE = (404, "There is no edge of this name.", "`agezero edges` lists the edges.")
    NOT_ADMIN = (
        403,
        "Your private API key is not permitted to administer this service.",
        "Use a key with the permission admin: `agezero keys create NAME --permission admin`.",
    )
    NO_SUCH_KEY = (404, "There is no key with this id.", "GET /v1/keys lists the keys.")
    INVALID_MEMBER = (400, "Your request is not valid.", "GET /openapi.json describes what is expected.")
    NO_SUCH_WEBHOOK = (404, "There is no webhook with this id.", "GET /v1/webhooks lists the webhooks.")
    TARGET_REFUSED = (400, "The webhook's URL is not allowed.", "Give the public http or https address of a server that is yours.")
    TOO_MANY_WEBHOOKS = (400, "There are too many webhooks.", "Delete those that are not needed any more.")
    KEY_NOT_VALID = (400, "The key is not valid, so it can't be rolled.", "Enable it first, or make a new key.")
    NOT_PERMITTED_AUDIT = (
        403,
        "Your private API key is not permitted to read the audit.",
        "Use a key with the permission admin: `agezero keys create NAME --permission admin`.",
    )
    SELECTOR_FORBIDDEN = (
        403,
        "Your private API key may not purge all of that.",
        "`errors` says whose endpoints: the service's are set at its start (--endpoint, or endpoints in agezero.toml), a key's when it is made.",
    )
    NO_SUCH_PURGE = (
        404,
        "There is no purge with this id.",
        "Use the id that a purge was answered with; a bound key sees only its endpoints' purges.",
    )
    WRONG_METHOD = (405, "The method is not allowed for this path.", "Use one of the methods in the header Allow.")
    BODY_TOO_LARGE = (413, "Your request body is too large.", f"Send at most {BODY_BYTES_MAX} bytes, with one URL.")
    PURGE_TOO_LARGE = (413, "Your request body is too large.", f"Send at most {PURGE_BYTES_MAX} bytes; split what is to be purged.")
    SELECTOR_INVALID = (422, "The purge names what cannot be purged.", "`errors` says what is wrong where; nothing of the purge was done.")
    IDEMPOTENCY_CONFLICT = (
        422,
        "The Idempotency-Key was used for another purge.",
        "Send a fresh one with each purge; the same only to repeat it.",
    )
    RATE_LIMITED = (429, "Too many requests with this private API key.", "Wait for the seconds in Retry-After, or raise [limits] in agezero.toml.")
    TOO_MANY_ATTEMPTS = (
        429,
        "Too many failed attempts from this address.",
        "Wait for the seconds in Retry-After and check the private key, or raise limits.failed_attempts_per_min in agezero.toml.",
    )
    INTERNAL = (500, "An internal error occurred.", "The service's log tells more; find it there by the x-ik-requestId of this response.")
    LOG_UNAVAILABLE = (503, "The purge could not be recorded, so it was not accepted.", "Send it again later; the service's log says why.")
    RECORDS_UNAVAILABLE = (503, "The change could not be recorded.", "Send it again later; the service's log says why.")
    TOO_MANY_STREAMS = (503, "Too many streams of events are open.", "Close some, or come back later with Last-Event-ID; nothing is missed.")
    STATUS_UNKNOWN = (503, "The status is not known at the moment.", "Ask again in a few seconds; GET /readyz says what the service waits for.")

    def __init__(self, status: int, message: str, advice: str) -> None:
        self.status = status
        self.message = message
        self.advice = f"{advice} {DOCS}"
        self._plain = Reply(status, msgspec.json.encode(Problem(message, self.advice)))

    def reply(self, detail: str = "", *headers: Header) -> Reply:
        """The response; ``detail`` says what was wrong with this request."""
        body = self._plain.body if not detail else msgspec.json.encode(Problem(self.message, f"{_sentence(detail)} {self.advice}"))
        return Reply(self.status, body, self._plain.headers + headers)

    @property
    def type(self) -> str:
        """The problem's type, a URI (RFC 9457 §3.1.1)."""
        return f"urn:agezero:problem:{self.name.lower().replace('_', '-')}"

    @property
    def phrase(self) -> str:
        """The status's name, for people."""
        return HTTPStatus(self.status).phrase


def retry_after(seconds: int) -> Header:
    """Generated clients obey any value, however long, so it is kept to 1 to 60 s (the contract, "Headers")."""
    return (b"retry-after", b"%d" % min(max(seconds, 1), 60))


class Refused(Exception):
    """The request ends here."""

    def __init__(self, fault: Fault, detail: str = "", *headers: Header, errors: Sequence[FieldError] = ()) -> None:
        super().__init__(fault.message)
        self.fault = fault
        self.detail = detail
        self.headers = headers
        self.errors = errors

    @property
    def reply(self) -> Reply:
        """As ImageKit's calls tell it."""
        return self.fault.reply(self.detail, *self.headers)


def problem(refused: Refused) -> Reply:
    """As every other call tells it: RFC 9457."""
    fault = refused.fault
    detail = _sentence(refused.detail) if refused.detail else ""
    body = ProblemDetails(fault.type, fault.message, fault.status, detail, fault.advice, refused.errors)
    return Reply(fault.status, msgspec.json.encode(body), PROBLEM + refused.headers)


def _sentence(text: str) -> str:
    text = text[:1].upper() + text[1:]
    return text if text.endswith((".", "!", "?")) else f"{text}."

"""The reasons a request can be refused, in our own words; `http` alone knows their status codes."""

from __future__ import annotations

from typing import Any


class Refusal(Exception):
    """A refusal that the caller is told about: what was wrong, a stable code, and when to come back."""

    default_code = "refused"

    def __init__(
        self,
        detail: str | list[dict[str, Any]],
        *,
        code: str = "",
        retry_after: float | None = None,
        headers: dict[str, str] | None = None,
        extra: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.code = code or self.default_code
        self.retry_after = retry_after
        self.headers = headers or {}
        self.extra = extra or {}


class Malformed(Refusal):
    """The request cannot be understood, or asks for what its state does not allow."""

    default_code = "malformed"


class Unauthenticated(Refusal):
    """Nobody proved who they are."""

    default_code = "unauthorized"


class PaymentRequired(Refusal):
    """The caller has to pay first."""

    default_code = "payment_required"


class Forbidden(Refusal):
    """The caller is known and not entitled."""

    default_code = "forbidden"


class NotFound(Refusal):
    """There is no such thing."""

    default_code = "not_found"


class MethodNotAllowed(Refusal):
    """The path exists, this method does not."""

    default_code = "method_not_allowed"


class Conflict(Refusal):
    """Somebody else was first, or the thing is no longer in the state that the request assumes."""

    default_code = "conflict"


class PreconditionFailed(Refusal):
    """The version that the caller named is not the current one."""

    default_code = "precondition_failed"


class TooLarge(Refusal):
    """More bytes than the route takes."""

    default_code = "too_large"


class RangeNotSatisfiable(Refusal):
    """The asked range lies outside the object."""

    default_code = "range_not_satisfiable"


class Invalid(Refusal):
    """The request is well formed and its values break a rule."""

    default_code = "invalid"


class Locked(Refusal):
    """The door is closed at this time."""

    default_code = "locked"


class TooMany(Refusal):
    """The caller is over a limit; `retry_after` holds the true remaining wait."""

    default_code = "too_many_requests"


class Unavailable(Refusal):
    """Something we depend on did not answer; the same request may succeed later."""

    default_code = "unavailable"


class Internal(Refusal):
    """Our fault; the log knows more under the request id."""

    default_code = "internal"


class Contended(Exception):
    """A competitor changed what this decision rested on: read again and decide again."""

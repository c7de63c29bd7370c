"""Frequent calls of AWS on a short road: botocore's client, credentials, events and errors without its detours.

A call is one signed request, and botocore spends one to three milliseconds of CPU on it, of which a small Lambda has a
third: endpoint rules, header objects, layers of handlers. Here it is what it is; every other call is botocore's.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

from botocore.awsrequest import AWSPreparedRequest
from botocore.utils import get_environ_proxies

from .connections import Received
from .sigv4 import Signer

FIRST_ERROR = 300


class ShortRoad(ABC):
    """Stands for a client's `_make_api_call`; a service says what its requests are and what its answers mean."""

    service: ClassVar[str]
    calls: ClassVar[frozenset[str]]
    asked_again: ClassVar[frozenset[int]] = frozenset()  # what only botocore knows an answer to

    def __init__(self, client: Any, signer: Callable[[str], Signer]) -> None:
        self._client = client
        self._any_call = client._make_api_call  # noqa: SLF001 - see `shortened`
        self._signer = signer

    def __call__(self, operation: str, params: dict[str, Any]) -> dict[str, Any]:
        if operation not in self.calls:
            found: dict[str, Any] = self._any_call(operation, params)
            return found
        model = self._client.meta.service_model.operation_model(operation)
        self._emit("provide-client-params", operation, params=params, model=model, context={})
        request = self._request(model, params)
        asked = {"headers": request.headers, "body": request.body}
        self._emit("before-call", operation, model=model, params=asked, context={})
        received = self._received(self._emit("before-send", operation, request=request), request)
        if received.status in self.asked_again:
            return self._any_call(operation, params)  # type: ignore[no-any-return]
        status, parsed = self._parsed(model, received)
        self._emit("after-call", operation, http_response=None, parsed=parsed, model=model, context={})
        if status >= FIRST_ERROR:
            raise self._client.exceptions.from_code(parsed["Error"]["Code"])(parsed, operation)
        return parsed

    def _emit(self, event: str, operation: str, **told: Any) -> list[tuple[Any, Any]]:
        answers: list[tuple[Any, Any]] = self._client.meta.events.emit(f"{event}.{self.service}.{operation}", **told)
        return answers

    def _received(self, given: list[tuple[Any, Any]], request: AWSPreparedRequest) -> Received:
        """What a handler of `before-send` answers instead of AWS, else what AWS does."""
        for _, answer in given:
            if answer is not None:
                return Received(answer.status_code, answer.headers, answer.content)
        return self._send(request)

    @abstractmethod
    def _request(self, model: Any, params: dict[str, Any]) -> AWSPreparedRequest:
        """A signed request."""

    @abstractmethod
    def _send(self, request: AWSPreparedRequest) -> Received: ...

    @abstractmethod
    def _parsed(self, model: Any, received: Received) -> tuple[int, dict[str, Any]]:
        """The status, and the answer or the error as botocore words it."""


def shortened(client: Any, road: type[ShortRoad], signer: Callable[[str], Signer]) -> Any:
    """The client with its frequent calls on the short road, unless a proxy stands in the way."""
    if not get_environ_proxies(client.meta.endpoint_url):
        client._make_api_call = road(client, signer)  # noqa: SLF001 - where every operation's method leads
    return client

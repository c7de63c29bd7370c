"""S3's calls about single objects and parts on the short road."""

from __future__ import annotations

import datetime as dt
import functools
import io
from email.utils import parsedate_to_datetime
from typing import Any, ClassVar
from urllib.parse import parse_qsl, quote, urlsplit

from botocore.awsrequest import AWSPreparedRequest
from botocore.parsers import RestXMLParser
from botocore.utils import parse_timestamp

from .connections import Connections, Received
from .short_road import FIRST_ERROR, ShortRoad
from .sigv4 import canonical


class ObjectCalls(ShortRoad):
    """botocore's own serializer and parser, without what stands between them."""

    service: ClassVar[str] = "s3"
    calls: ClassVar[frozenset[str]] = frozenset(
        {
            "AbortMultipartUpload", "CompleteMultipartUpload", "CopyObject", "CreateMultipartUpload", "DeleteObject",
            "GetObject", "HeadObject", "PutObject", "UploadPart", "UploadPartCopy",
        }
    )  # fmt: skip
    asked_again: ClassVar[frozenset[int]] = frozenset({301, 307, 400})  # a bucket of another region

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self._parser = RestXMLParser(timestamp_parser=_moment)
        self._connections = functools.cache(lambda origin: Connections(origin, self._client.meta.config))

    def _request(self, model: Any, params: dict[str, Any]) -> AWSPreparedRequest:
        source = params.get("CopySource")
        if source:
            params = params | {"CopySource": quote(f"{source['Bucket']}/{source['Key']}", safe="/~")}
        made = self._client._serializer.serialize_to_request(params, model)  # noqa: SLF001 - the one way to it
        method, body = made["method"], bytes(made["body"])
        named = {name.lower(): str(value) for name, value in made["headers"].items()}
        url = self._url(params["Bucket"], made)
        headers = self._signer("s3").headers(method, url, named, body)
        return AWSPreparedRequest(method, url, headers, body, stream_output=model.has_streaming_output)

    def _url(self, bucket: str, made: dict[str, Any]) -> str:
        """As it is signed: the serializer puts the bucket into the path, where it need not stand."""
        origin, folder = address(self._client, bucket)
        path, _, asked = made["url_path"].removeprefix(f"/{bucket}").partition("?")
        query = canonical(dict(parse_qsl(asked, keep_blank_values=True)) | made["query_string"])
        return f"{origin}{folder}{path}?{query}" if query else f"{origin}{folder}{path}"

    def _send(self, request: AWSPreparedRequest) -> Received:
        parts = urlsplit(request.url)
        target = f"{parts.path}?{parts.query}" if parts.query else parts.path
        asked = (request.method, target, request.headers, request.body)
        connections = self._connections(f"{parts.scheme}://{parts.netloc}")
        if not request.stream_output:
            return connections.send(*asked)
        answer = connections.open(*asked)
        is_refusal = answer.status >= FIRST_ERROR
        return Received(answer.status, answer.headers, answer.read() if is_refusal else answer)

    def _parsed(self, model: Any, received: Received) -> tuple[int, dict[str, Any]]:
        """A copy that fails late is told with status 200; botocore's handler sees that."""
        body = received.body
        if model.has_streaming_output and received.status < FIRST_ERROR and isinstance(body, bytes):
            body = io.BytesIO(body)
        answer = {
            "headers": _Headers((name.lower(), value) for name, value in received.headers.items()),
            "status_code": received.status,
            "body": body,
            "context": {"operation_name": model.name},
        }
        more: dict[str, Any] = {}
        told = {"operation_model": model, "response_dict": answer, "customized_response_dict": more}
        self._emit("before-parse", model.name, **told)
        parsed: dict[str, Any] = self._parser.parse(answer, model.output_shape)
        return answer["status_code"], parsed | more


class _Headers(dict[str, str]):
    """Lower-case names, asked for in any case; botocore's own makes an object of each name and of each question."""

    def __contains__(self, name: object) -> bool:
        return super().__contains__(str(name).lower())

    def __getitem__(self, name: str) -> str:
        return super().__getitem__(name.lower())

    def __delitem__(self, name: str) -> None:
        super().__delitem__(name.lower())

    def get(self, name: str, default: Any = None) -> Any:
        return super().get(name.lower(), default)


def _moment(text: str) -> dt.datetime:
    """The forms of bodies and of headers; botocore's way to any other costs as much as all the rest of an answer."""
    for read in (dt.datetime.fromisoformat, parsedate_to_datetime):
        try:
            return read(text)
        except ValueError:
            continue
    return parse_timestamp(text)  # type: ignore[no-any-return]


@functools.lru_cache(maxsize=64)
def address(client: Any, bucket: str) -> tuple[str, str]:
    """Origin and folder of a bucket's objects, as the library has it once; a signature alone costs a tenth of its."""
    parts = urlsplit(client.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "-"}))
    return f"{parts.scheme}://{parts.netloc}", parts.path.removesuffix("/-")

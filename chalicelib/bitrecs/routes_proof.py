"""Who signed a submission: headers, hotkey, and the two signatures over it."""

from __future__ import annotations

from chalicelib.kernel import keys
from chalicelib.kernel.errors import Malformed
from chalicelib.kernel.http import Request

from . import domain
from .contracts import BitrecsSettings, Submission


def transport(request: Request) -> domain.Transport:
    """The headers of /submit; one that is missing, or sent twice, is empty and fails where an empty one would."""
    names = ("X-Signature", "X-Timestamp", "X-Nonce", "X-T-Nonce")
    return domain.Transport(*("" if request.repeats(name) else request.header(name) or "" for name in names))


def public_key(hotkey: str) -> bytes:
    """The key behind the address, if it is one that can prove anything."""
    try:
        key = keys.public_key(hotkey)
    except keys.BadAddress:
        raise domain.malformed_hotkey(hotkey) from None
    if keys.is_weak(key):
        raise domain.malformed_hotkey(hotkey)
    return key


def verify_transport(
    body: Submission, key: bytes, sent: domain.Transport, settings: BitrecsSettings
) -> tuple[str, str]:
    """The signature's scheme and the client version that it names, which stands in no header: each known is tried."""
    signature = _signature(sent.signature)
    if signature is not None and sent.is_well_formed:
        for version, message in domain.transport_messages(body, sent, settings):
            if _is_signed(key, message, signature, settings):
                return keys.scheme_of(signature), version
    raise Malformed("Invalid transport signature", code="transport_signature_invalid")


def verify_payload(body: Submission, key: bytes, *, settings: BitrecsSettings, refusal: str, scheme: str = "") -> None:
    """Both signatures of one request come from the same curve."""
    signature = _signature(body.signature)
    same = signature is not None and scheme in {"", keys.scheme_of(signature)}
    if signature is None or not same or not _is_signed(key, domain.payload(body), signature, settings):
        raise Malformed(refusal, code="submission_signature_invalid")


def _signature(text: str) -> bytes | None:
    try:
        return keys.signature_from_hex(text)
    except keys.BadSignature:
        return None


def _is_signed(key: bytes, message: str, signature: bytes, settings: BitrecsSettings) -> bool:
    schemes, wrapped = settings.signature_schemes, settings.accept_bytes_wrapper
    return keys.verify(key, message.encode(), signature, schemes=schemes, wrapped=wrapped)

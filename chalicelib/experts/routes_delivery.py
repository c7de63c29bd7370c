"""How weights leave: slices inline, by redirect or as JSON, and the full model for validators."""

from __future__ import annotations

import re

from chalicelib.kernel import caching, chain, clock, keys, telemetry
from chalicelib.kernel.errors import Forbidden, Malformed, PreconditionFailed, RangeNotSatisfiable, Refusal, TooMany
from chalicelib.kernel.http import Answer, Request
from chalicelib.kernel.values import frozen
from chalicelib.kernel.wire import Item

from . import domain, store
from .contracts import LARGEST_INLINE, Block, ExpertsSettings, FullModel, SliceGrant

_NO_STORE = {"Cache-Control": "no-store"}
_ETAG_DIGITS = 32
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")
_TIMESTAMP = re.compile(r"[0-9]{1,12}")
_CONTENTS = ("experts", "shared", "experts+shared")


@frozen
class Caller:
    """Who presented a token: a registered one may name a hotkey."""

    digest: str
    hotkey: str | None = None


def clockwork() -> domain.Cycle:
    settings = ExpertsSettings.current()
    return domain.cycle(settings.phases, settings.public_phase_map)


def joined(request: Request, name: str) -> str | None:
    """A header, all its values in one as HTTP reads them: no group, hotkey, token or signature has a comma in it."""
    if not request.repeats(name):
        return request.header(name)
    sent = [value for spelt, values in request.sent_headers.items() if spelt.lower() == name for value in values]
    return ", ".join(sent)


def partial(request: Request, caller: Caller) -> Answer:
    """An expert group's slice: its bytes, a redirect to them, or JSON with their URL."""
    group = domain.group_header(joined(request, "x-expert-group"))
    hotkey = _hotkey_header(request)
    content = _content(request)
    world = store.world()
    domain.check_group(group, world.groups)
    if world.model is None:
        raise domain.model_not_loaded()
    _check_registered_group(request, world, hotkey, group)
    name = {"experts": f"group_{group}", "shared": "shared"}.get(content, f"group_{group}+shared")
    wire = world.model["wires"].get(name)
    if wire is None:
        raise Malformed("This deployment does not publish slices with shared tensors", code="bad_field")
    etag = f'"{_hex(wire["content_hash"])[:_ETAG_DIGITS]}"'
    headers = _slice_headers(world.model, wire, group, etag)
    wanted = joined(request, "if-match")
    if wanted is not None and not caching.names(wanted, etag):
        raise PreconditionFailed("The model has moved on; start again", code="version_moved", headers=headers)
    if caching.names(joined(request, "if-none-match"), etag):
        return Answer(status=304, headers=headers | _NO_STORE)
    return _delivered(request, caller, world, _Delivery(hotkey, group, wire, headers))


@frozen
class _Delivery:
    """What is about to be handed out, and to whom."""

    hotkey: str
    group: int
    wire: Item
    headers: dict[str, str]

    @property
    def etag(self) -> str:
        return self.headers["ETag"]


def _delivered(request: Request, caller: Caller, world: store.World, wanted: _Delivery) -> Answer:
    settings = ExpertsSettings.current()
    largest = {"redirect": -1, "inline": LARGEST_INLINE, "auto": settings.inline_max_bytes}[settings.delivery_mode]
    as_json = _prefers_json(request)
    if wanted.wire["bytes"] <= largest and not as_json:
        return _inline(request, wanted)
    _check_stands(wanted.wire["key"])
    if as_json:
        return Answer(_slice_as_json(request, caller, world, wanted), headers=wanted.headers | _NO_STORE)
    seconds = settings.presign_ttl_s
    if request.method == "HEAD":
        url = store.models().presign_head(wanted.wire["key"], seconds)
    else:
        url = _granted(request, caller, world, wanted)
    return Answer(status=307, headers=wanted.headers | _NO_STORE | {"Location": url})


def _slice_headers(model: Item, wire: Item, group: int, etag: str) -> dict[str, str]:
    return {
        "X-Expert-Group": str(group),
        "X-Block-Number": str(model["block_number"]),
        "X-Model-Version": model["model_version"],
        "X-Content-Hash": wire["content_hash"],
        "X-Payload-Bytes": str(wire["payload_bytes"]),
        "ETag": etag,
    }


def _inline(request: Request, wanted: _Delivery) -> Answer:
    """Small slices come from the API itself, whole or in part."""
    total = wanted.wire["bytes"]
    headers = wanted.headers | {"Accept-Ranges": "bytes"}
    asked = request.header("range") if request.header("if-range") in {None, wanted.etag} else None
    chosen = _byte_range(asked, total)
    if chosen is None:
        raw = store.models().get(wanted.wire["key"])
        if raw is None or len(raw) != total:
            raise _vanished(wanted.wire["key"])
        headers["Cache-Control"] = "private, no-cache"
        return Answer(raw, headers=headers, content_type="application/octet-stream")
    first, last = chosen
    raw = store.models().get(wanted.wire["key"], first=first, last=last)
    if raw is None:
        raise _vanished(wanted.wire["key"])
    headers |= {"Content-Range": f"bytes {first}-{last}/{total}"} | _NO_STORE
    return Answer(raw, 206, headers, "application/octet-stream")


def _check_stands(key: str) -> None:
    if not store.stands(key):
        raise _vanished(key)


def _vanished(key: str) -> Refusal:
    """An object that somebody deleted by hand: never a redirect to nothing, and a line for the alarm."""
    telemetry.log("a published object is missing", key=key)
    return domain.model_not_loaded()


def _byte_range(header: str | None, total: int) -> tuple[int, int] | None:
    """The one range that is asked for; several, or another unit, mean the whole."""
    match = _RANGE.fullmatch(header or "")
    if not match or not (match[1] or match[2]):
        return None
    if match[1]:
        first, last = int(match[1]), min(int(match[2] or total), total - 1)
        if match[2] and int(match[2]) < first:
            return None
    else:
        first, last = max(0, total - int(match[2])), total - 1
    if first > last:
        raise RangeNotSatisfiable("The range lies outside the slice", headers={"Content-Range": f"bytes */{total}"})
    return first, last


def _slice_as_json(request: Request, caller: Caller, world: store.World, wanted: _Delivery) -> SliceGrant:
    model = world.model or {}
    seconds = ExpertsSettings.current().presign_ttl_s
    return SliceGrant(
        expert_group=wanted.group,
        block_number=model["block_number"],
        model_version=model["model_version"],
        content_hash=wanted.wire["content_hash"],
        payload_bytes=wanted.wire["payload_bytes"],
        wire_bytes=wanted.wire["bytes"],
        url=_granted(request, caller, world, wanted),
        url_expires_at=clock.stamp_seconds(clock.now() + seconds),
        etag=wanted.etag,
    )


def _granted(request: Request, caller: Caller, world: store.World, wanted: _Delivery) -> str:
    """A URL whose file name leads from storage's access log to the caller, noted before it is handed out."""
    settings = ExpertsSettings.current()
    block = world.head.block if world.head else 0
    clockwork_now = clockwork()
    left = clockwork_now.length - block % clockwork_now.length
    now = clock.now()
    record = {
        "hotkey": wanted.hotkey, "group": wanted.group, "content_hash": wanted.wire["content_hash"],
        "version_id": (world.model or {})["version_id"], "ip": request.ip, "issued_at": now,
        "expires_at": now + settings.presign_ttl_s,
    }  # fmt: skip
    ttl = int(now + (2 * clockwork_now.length + left) * settings.block_seconds)
    who = caller.hotkey or f"{caller.digest}#{request.ip}"  # X-Hotkey proves nothing here: it costs nobody else
    grant_id = store.grant(who, clockwork_now.number(block), settings.max_grants_per_cycle, ttl, record)
    if grant_id is None:
        text = (
            f"At most {settings.max_grants_per_cycle} URLs per cycle; ask with If-None-Match to learn of a new version"
        )
        raise TooMany(text, code="throttled", retry_after=left * settings.block_seconds)
    name = f"g{wanted.group}-{wanted.hotkey[:8]}-{grant_id[:8]}.bin"
    disposition = {"ResponseContentDisposition": f'attachment; filename="{name}"'}
    return store.models().presign_get(wanted.wire["key"], settings.presign_ttl_s, **disposition)


def _check_registered_group(request: Request, world: store.World, hotkey: str, group: int) -> None:
    """Noted in the log, or enforced where the operator wants it."""
    own = registered_group(world.metagraph, hotkey)
    if own is None or own == group:
        return
    request.notes["group_mismatch"] = True
    if ExpertsSettings.current().enforce_group_assignment:
        raise Forbidden("This hotkey is registered for another group", code="group_mismatch")


def registered_group(metagraph: chain.Snapshot | None, hotkey: str) -> int | None:
    commitments = metagraph.subnet.commitments_of.get(hotkey, ()) if metagraph else ()
    groups = [domain.committed_group(commitment.data) for commitment in commitments]
    return next((group for group in reversed(groups) if group is not None), None)


def _hotkey_header(request: Request) -> str:
    text = joined(request, "x-hotkey")
    if text is None:
        raise Malformed("X-Hotkey is missing", code="missing_header")
    return hotkey_of(text)


def hotkey_of(text: str) -> str:
    try:
        keys.public_key(text)
    except keys.BadAddress as error:
        raise Malformed(f"The hotkey does not count: {error}", code="bad_hotkey") from None
    return text


def _content(request: Request) -> str:
    """`+` means a space in a query, so both spellings reach us."""
    text = request.query.get("content", [""])[-1].replace(" ", "+") or ExpertsSettings.current().slice_content
    if text not in _CONTENTS:
        raise Malformed(f"content is one of {', '.join(_CONTENTS)}", code="bad_field", extra={"field": "content"})
    return text


def _prefers_json(request: Request) -> bool:
    """Whether JSON is named and nothing else is liked better; `*/*` means the bytes."""
    best: dict[str, float] = {}
    for entry in (joined(request, "accept") or "").split(","):
        kind, *parameters = (part.strip().lower() for part in entry.split(";"))
        quality = next((part[2:] for part in parameters if part.startswith("q=")), "1")
        best[kind] = float(quality) if re.fullmatch(r"[01](\.\d{0,3})?", quality) else 0.0
    wanted = best.pop("application/json", 0.0)
    return wanted > 0 and wanted >= max(best.values(), default=0.0)


def _hex(content_hash: str) -> str:
    return content_hash.removeprefix("sha256:")


def full(request: Request, caller: Caller) -> Answer:
    """The whole model as one safetensors file, for validators; JSON lists its blocks."""
    hotkey = caller.hotkey or _signed_hotkey(request)
    settings = ExpertsSettings.current()
    world = store.world()
    snapshot, now = world.metagraph, clock.now()
    domain.check_metagraph(snapshot.synced_at if snapshot else None, now=now, oldest=settings.metagraph_max_age_s)
    assert snapshot is not None
    domain.check_validator(
        hotkey, snapshot.subnet.by_hotkey.get(hotkey), whitelist=settings.validator_whitelist,
        block=snapshot.block, oldest_weights=settings.validator_max_weight_age,
    )  # fmt: skip
    if world.model is None:
        raise domain.model_not_loaded()
    return _full_answer(request, world.model, hotkey)


def _full_answer(request: Request, model: Item, hotkey: str) -> Answer:
    found, bucket = model["full"], store.models()
    seconds = ExpertsSettings.current().full_presign_ttl_s
    _check_stands(found["key"])
    headers = {"X-Model-Version": model["model_version"], "X-Block-Number": str(model["block_number"]), **_NO_STORE}
    if found["crc64nvme"]:
        headers["X-Full-CRC64NVME"] = found["crc64nvme"]
    if request.method == "HEAD":
        return Answer(status=307, headers=headers | {"Location": bucket.presign_head(found["key"], seconds)})
    name = f"full-{hotkey[:8]}-{request.id[:8]}.safetensors"
    url = bucket.presign_get(found["key"], seconds, ResponseContentDisposition=f'attachment; filename="{name}"')
    telemetry.log("full model granted", hotkey=hotkey, version=model["version_id"], request_id=request.id)
    if not _prefers_json(request):
        return Answer(status=307, headers=headers | {"Location": url})
    blocks = [
        Block(
            name=name,
            bytes=block["bytes"],
            content_hash=f"sha256:{block['sha256']}" if block["sha256"] else None,
            url=bucket.presign_get(block["key"], seconds),
        )
        for name, block in sorted(model["blocks"].items())
    ]
    body = FullModel(
        model_version=model["model_version"], block_number=model["block_number"], url=url,
        url_expires_at=clock.stamp_seconds(clock.now() + seconds), bytes=found["bytes"],
        crc64nvme=found["crc64nvme"], blocks=blocks,
    )  # fmt: skip
    return Answer(body, headers=headers)


def _signed_hotkey(request: Request) -> str:
    """The shared token names nobody, and validators' hotkeys are public: the caller proves which one is its own."""
    settings = ExpertsSettings.current()
    hotkey, timestamp, signature = (joined(request, name) for name in ("x-hotkey", "x-timestamp", "x-signature"))
    if hotkey and settings.full_allow_unsigned_hotkey and not signature:
        return hotkey_of(hotkey)
    if not (hotkey and timestamp and signature):
        text = "Sign the request: X-Hotkey, X-Timestamp and X-Signature, or use a token bound to your hotkey"
        raise Forbidden(text, code="hotkey_required")
    skew, now = settings.full_sig_skew_s, clock.now()
    valid = _TIMESTAMP.fullmatch(timestamp) and abs(int(now) - int(timestamp)) <= skew
    if not (valid and _signs(request, hotkey, timestamp, signature)):
        raise Forbidden("The signature does not fit hotkey, time and host", code="hotkey_signature_invalid")
    if not store.use_signature(hotkey, timestamp, expires_at=int(timestamp) + 2 * skew):
        raise Forbidden("This signature was used before", code="hotkey_signature_invalid")
    return hotkey


def _signs(request: Request, hotkey: str, timestamp: str, signature: str) -> bool:
    """The host counts with and without its port."""
    try:
        key, raw = keys.public_key(hotkey), keys.signature_from_base64url(signature)
    except (keys.BadAddress, keys.BadSignature):
        return False
    host = request.header("host") or ""
    schemes = ExpertsSettings.current().signature_schemes
    return any(
        keys.verify(key, domain.full_message("/model/full", timestamp, name), raw, schemes=schemes)
        for name in {host, host.rpartition(":")[0] or host}
    )

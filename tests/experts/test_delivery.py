"""Slices: rows 8 to 35 and 85 to 89 of the conformance table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from chalicelib.experts import slices, store
from chalicelib.kernel import aws, tokens, wire
from chalicelib.kernel.chain import Commitment
from tests.experts import models
from tests.experts.conftest import MINER, NOW, SECOND, START, TOKEN, VALIDATOR, World
from tests.harness.client import Reply


def registered(hotkey: str | None, *, expires_at: float | None = None) -> str:
    value = f"token-{hotkey}"
    store.register_token(tokens.digest(value), hotkey, expires_at)
    return f"Bearer {value}"


def code(reply: Reply) -> tuple[int, str]:
    return reply.status, reply.json["code"]


def redirected(served: World) -> World:
    """Every slice is a large one."""
    served.configure(EXPERTS_INLINE_MAX_BYTES="0")
    return served


# ---- tokens


def test_without_a_token_it_is_401_and_says_how(served: World) -> None:
    reply = served.client.get("/experts/model/partial")

    assert code(reply) == (401, "unauthorized")
    assert reply.header("WWW-Authenticate") == "Bearer"
    assert reply.header("Cache-Control") == "no-store"
    assert reply.header("X-Request-Id")


@pytest.mark.parametrize(
    "header", [f"Basic {TOKEN}", "Bearer", "Bearer ", "Bearer wrong", f"Bearer {TOKEN} junk", TOKEN]
)
def test_only_a_whole_bearer_header_is_taken(served: World, header: str) -> None:
    assert code(served.partial(Authorization=header)) == (401, "unauthorized")


def test_the_token_is_looked_at_before_anything_else(served: World) -> None:
    for path in ("/model/partial", "/model/full", "/overview", "/submission/x"):
        reply = served.call("GET", path, Authorization="Bearer no", X_Expert_Group="x", X_Hotkey="x")
        assert reply.status == 401


def test_the_scheme_is_taken_in_any_case(served: World) -> None:
    assert served.partial(Authorization=f"bearer   {TOKEN}").status == 200


def test_several_tokens_count_and_a_removed_one_does_not(served: World) -> None:
    served.configure(EXPERTS_BZ_AUTH_TOKEN="one,two")

    assert [served.partial(Authorization=f"Bearer {t}").status for t in ("one", "two", TOKEN)] == [200, 200, 401]


def test_a_registered_token_counts_until_it_is_revoked_or_expires(served: World) -> None:
    token = registered(None)
    assert served.partial(Authorization=token).status == 200
    store.revoke_token(tokens.digest(token.removeprefix("Bearer ")))
    assert served.partial(Authorization=token).status == 401

    assert served.partial(Authorization=registered("late", expires_at=NOW)).status == 401


def test_without_any_configured_token_everything_is_401(served: World) -> None:
    served.configure(EXPERTS_BZ_AUTH_TOKEN="")

    assert served.partial().status == 401
    assert served.partial(Authorization="Bearer ").status == 401


# ---- headers


def test_a_missing_header_is_named(served: World) -> None:
    authorised = {"Authorization": f"Bearer {TOKEN}"}
    bare = served.client.get("/experts/model/partial", authorised)
    no_hotkey = served.client.get("/experts/model/partial", authorised | {"X-Expert-Group": "0"})

    assert [code(bare), code(no_hotkey)] == [(400, "missing_header")] * 2
    assert "X-Hotkey" in no_hotkey.json["detail"]


@pytest.mark.parametrize("group", ["abc", "1.0", "", "0x1", " ", "1,1", "+1", "1234567890", "١"])
def test_a_group_is_a_whole_number(served: World, group: str) -> None:
    assert code(served.partial(group)) == (400, "bad_expert_group")


@pytest.mark.parametrize("group", ["99", "-1", "2"])
def test_an_unknown_group_is_404(served: World, group: str) -> None:
    assert code(served.partial(group)) == (404, "expert_group_not_found")


@pytest.mark.parametrize(
    "hotkey",
    [MINER.hotkey[:-1] + ("A" if MINER.hotkey[-1] != "A" else "B"), MINER.hotkey[:-1], "0x" + MINER.public.hex(),
     f"{MINER.hotkey},{MINER.hotkey}", "", "15oF4uVJwmo4TdGW7VfQxNLavjCXviqxT9S1MgbjMNHr6Sp5"],
)  # fmt: skip
def test_a_hotkey_is_a_whole_address_of_this_network(served: World, hotkey: str) -> None:
    assert code(served.partial(X_Hotkey=hotkey)) == (400, "bad_hotkey")


@pytest.mark.parametrize(
    ("spelt", "value", "refused"),
    [("x_expert_group", "0", (400, "bad_expert_group")), ("x_hotkey", MINER.hotkey, (400, "bad_hotkey")),
     ("authorization", f"Bearer {TOKEN}", (401, "unauthorized"))],
)  # fmt: skip
def test_a_header_that_comes_twice_counts_as_joined_by_a_comma(
    served: World, spelt: str, value: str, refused: tuple[int, str]
) -> None:
    assert code(served.partial(**{spelt: value})) == refused


def test_lists_that_come_in_two_headers_are_one_list(served: World) -> None:
    etag = served.partial().header("ETag") or ""

    assert served.partial(If_None_Match=etag, if_none_match='"other"').status == 304
    assert served.partial(If_Match=etag, if_match='"other"').status == 200


def test_without_a_model_a_known_group_waits_and_an_unknown_one_does_not_exist(world: World) -> None:
    assert code(world.partial()) == (503, "model_not_loaded")
    store.note_assignment([0, 1])

    waiting = world.partial()

    assert code(waiting) == (503, "model_not_loaded")
    assert waiting.header("Retry-After") == "30"
    assert code(world.partial("7")) == (404, "expert_group_not_found")


# ---- bytes


def test_a_slice_is_an_envelope_and_a_safetensors_file(served: World, tiny: models.Model) -> None:
    reply = served.partial()
    start = 8 + slices.envelope_length(reply.body[:8])
    fields = slices.envelope_fields(reply.body[8:start])

    assert start % 4096 == 0
    assert list(fields)[:4] == ["expert_group", "block_number", "model_version", "content_hash"]
    assert (fields["expert_group"], fields["block_number"], fields["model_version"]) == (0, 1000, "step_1")
    assert fields["content_hash"] == models.digest(reply.body[start:]) == reply.header("X-Content-Hash")
    assert fields["payload_bytes"] == len(reply.body) - start == int(reply.header("X-Payload-Bytes") or 0)
    assert reply.header("ETag") == f'"{fields["content_hash"][7:39]}"'


@pytest.mark.parametrize("group", ["0", "1"])
def test_a_slice_holds_its_experts_bit_for_bit_and_nothing_else(served: World, tiny: models.Model, group: str) -> None:
    found = models.parts_of(models.payload(served.partial(group).body))

    assert set(found) == tiny.names(group)
    assert {name: tiny.parts[name] for name in found} == found


def test_groups_are_disjoint_and_shared_tensors_are_the_rest_of_the_story(served: World, tiny: models.Model) -> None:
    first, second, shared = (
        set(models.parts_of(models.payload(reply.body)))
        for reply in (served.partial("0"), served.partial("1"), served.partial(query="?content=shared"))
    )

    assert not first & second
    assert not (first | second) & shared
    assert shared == {name for name in tiny.parts if ".mlp.experts." not in name}


@pytest.mark.parametrize("content", ["experts+shared", "experts%2Bshared"])
def test_a_small_slice_can_be_had_with_the_shared_tensors(served: World, tiny: models.Model, content: str) -> None:
    reply = served.partial(query=f"?content={content}")

    found = models.parts_of(models.payload(reply.body))
    assert set(found) == tiny.names("0") | {name for name in tiny.parts if ".mlp.experts." not in name}
    assert all(tiny.parts[name] == part for name, part in found.items())
    assert models.digest(models.payload(reply.body)) == reply.header("X-Content-Hash")


def test_another_content_is_refused(served: World) -> None:
    assert code(served.partial(query="?content=everything")) == (400, "bad_field")


def test_a_slice_does_not_change(served: World) -> None:
    first, second = served.partial(), served.partial()

    assert (first.body, first.header("ETag")) == (second.body, second.header("ETag"))


def test_conditions_spare_the_bytes(served: World) -> None:
    etag = served.partial().header("ETag") or ""

    unchanged = served.partial(If_None_Match=f'"other", W/{etag}')
    assert (unchanged.status, unchanged.body, unchanged.header("ETag")) == (304, b"", etag)
    assert served.partial(If_None_Match='"other"').status == 200
    assert served.partial(If_Match=etag).status == 200
    assert code(served.partial(If_Match='"other"')) == (412, "version_moved")


@pytest.mark.parametrize(
    ("asked", "begin", "end"),
    [("bytes=100-199", 100, 200), ("bytes=0-0", 0, 1), ("bytes=5000-", 5000, None), ("bytes=-10", -10, None),
     ("bytes=100-99999999", 100, None)],
)  # fmt: skip
def test_an_inline_slice_can_be_read_in_part(served: World, asked: str, begin: int, end: int | None) -> None:
    whole = served.partial().body
    reply = served.partial(Range=asked)

    first = begin % len(whole)
    assert (reply.status, reply.body) == (206, whole[begin:end])
    assert reply.header("Content-Range") == f"bytes {first}-{first + len(reply.body) - 1}/{len(whole)}"


def test_a_range_outside_is_416_and_a_strange_one_is_ignored(served: World) -> None:
    whole = served.partial()
    outside = served.partial(Range="bytes=99999999-")

    assert code(outside) == (416, "range_not_satisfiable")
    assert outside.header("Content-Range") == f"bytes */{len(whole.body)}"
    for strange in ("bytes=0-1,3-4", "lines=1-2", "bytes=5-2", "bytes=-", "bytes=a-b"):
        assert served.partial(Range=strange).status == 200
    assert served.partial(Range="bytes=0-1", If_Range='"old"').status == 200
    assert served.partial(Range="bytes=0-1", If_Range=whole.header("ETag") or "").status == 206


# ---- redirects and JSON


def test_a_large_slice_is_a_redirect_with_its_facts(served: World) -> None:
    inline = served.partial()
    reply = redirected(served).partial()

    assert (reply.status, reply.body, reply.header("Cache-Control")) == (307, b"", "no-store")
    location = reply.header("Location") or ""
    assert "X-Amz-Signature" in location
    assert f"g0-{MINER.hotkey[:8]}-" in location
    facts = ("X-Expert-Group", "X-Block-Number", "X-Model-Version", "X-Content-Hash", "X-Payload-Bytes", "ETag")
    assert [reply.header(name) for name in facts] == [inline.header(name) for name in facts]


def test_a_slice_that_no_function_could_answer_is_a_redirect_in_every_mode(served: World) -> None:
    served.publish(models.model(hidden=512, width=512), version="step_2", block=1010)

    for mode in ("auto", "inline", "redirect"):
        served.configure(EXPERTS_DELIVERY_MODE=mode)
        assert served.partial().status == 307


def test_a_url_is_noted_before_it_is_handed_out(served: World) -> None:
    location = redirected(served).partial().header("Location") or ""

    grant_prefix = location.split(f"g0-{MINER.hotkey[:8]}-")[1][:8]
    grants = [item for item in every_item() if item["pk"].startswith("GRANT#")]
    assert [item["pk"].removeprefix("GRANT#")[:8] for item in grants] == [grant_prefix]
    assert (grants[0]["hotkey"], grants[0]["group"], grants[0]["ip"]) == (MINER.hotkey, 0, "127.0.0.1")


def every_item() -> list[dict[str, Any]]:
    pages = aws.client("dynamodb").get_paginator("scan").paginate(TableName=store.table.name)
    return [wire.from_wire(item) for page in pages for item in page["Items"]]


def test_json_is_answered_to_those_who_ask(served: World) -> None:
    inline = served.partial()
    for accept in ("application/json", "application/json, */*;q=0.1", "*/*;q=0.5, application/json"):
        reply = served.partial(Accept=accept)
        assert reply.status == 200
        assert reply.json["content_hash"] == inline.header("X-Content-Hash")
        assert (reply.json["wire_bytes"], reply.json["etag"]) == (len(inline.body), inline.header("ETag"))
        assert "X-Amz-Signature" in reply.json["url"]
    for accept in ("*/*", "application/octet-stream", "application/json;q=0.1, */*", "application/json;q=0"):
        assert served.partial(Accept=accept).body == inline.body


def test_no_accept_header_means_the_bytes(served: World) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}", "X-Expert-Group": "0", "X-Hotkey": MINER.hotkey}

    assert served.client.get("/experts/model/partial", headers).body == served.partial().body


def test_head_says_what_get_would_and_signs_for_head(served: World) -> None:
    assert served.partial(method="HEAD").status == 200
    got, headed = redirected(served).partial(), served.partial(method="HEAD")

    assert (headed.status, headed.header("ETag")) == (307, got.header("ETag"))
    assert (headed.header("Location") or "").split("?")[0] == (got.header("Location") or "").split("?")[0]
    assert headed.header("Location") != got.header("Location")


def test_urls_are_limited_per_cycle_and_other_answers_are_not(served: World) -> None:
    served.configure(EXPERTS_INLINE_MAX_BYTES="0", EXPERTS_MAX_GRANTS_PER_CYCLE="2")
    etag = served.partial().header("ETag") or ""

    assert [served.partial().status, served.partial().status] == [307, 429]
    assert served.partial(If_None_Match=etag).status == 304
    limited = served.partial()
    assert (code(limited), limited.header("Retry-After")) == ((429, "throttled"), str(10 * 12))
    served.at(START + 30)
    assert served.partial().status == 307


def test_another_hotkey_in_the_header_opens_no_new_account(served: World) -> None:
    served.configure(EXPERTS_INLINE_MAX_BYTES="0", EXPERTS_MAX_GRANTS_PER_CYCLE="1")
    bound = registered(SECOND.hotkey)

    statuses = [served.partial(X_Hotkey=signer.hotkey).status for signer in (MINER, VALIDATOR, SECOND)]
    assert statuses == [307, 429, 429]
    assert [served.partial(Authorization=bound).status for _ in range(2)] == [307, 429]


def test_the_group_of_a_commitment_is_noted_and_enforced_where_wanted(served: World) -> None:
    served.commitments.append(Commitment(hotkey=MINER.hotkey, block=START, data='{"h":"x","e":1}'))
    served.at(START + 21)

    assert served.partial("0").status == 200
    served.configure(EXPERTS_ENFORCE_GROUP_ASSIGNMENT="true")
    assert code(served.partial("0")) == (403, "group_mismatch")
    assert served.partial("1").status == 200


def test_a_slice_is_served_in_every_phase(served: World) -> None:
    for offset in range(31, 61):
        served.at(START + offset)
        assert served.partial().status == 200


def test_a_deleted_slice_is_no_redirect_to_nothing(served: World) -> None:
    store.models().delete((store.current() or {})["wires"]["group_0"]["key"])

    assert code(served.partial()) == (503, "model_not_loaded")
    assert code(redirected(served).partial()) == (503, "model_not_loaded")
    assert code(served.partial(Accept="application/json")) == (503, "model_not_loaded")
    assert [item for item in every_item() if item["pk"].startswith("GRANT#")] == []


def test_a_process_looks_for_an_object_once_a_minute(served: World, freeze: Callable[[float], None]) -> None:
    served.configure(EXPERTS_INLINE_MAX_BYTES="0", HEAD_MAX_AGE_S="1000")
    assert served.partial().status == 307
    store.models().delete((store.current() or {})["wires"]["group_0"]["key"])

    freeze(NOW + 59)
    assert served.partial().status == 307
    freeze(NOW + 60)
    assert served.partial().status == 503


def test_a_version_flip_gives_whole_answers_before_and_after(served: World) -> None:
    before = served.partial()
    served.publish(models.model(seed=2), version="step_2", block=1010)
    after = served.partial()

    for reply in (before, after):
        assert models.digest(models.payload(reply.body)) == reply.header("X-Content-Hash")
    assert [reply.header("X-Block-Number") for reply in (before, after)] == ["1000", "1010"]
    assert code(served.partial(If_Match=before.header("ETag") or "")) == (412, "version_moved")


@pytest.mark.parametrize("asked", [{}, {"Range": "bytes=0-9"}, {"If_None_Match": "*"}, {"group": "9"}, {"group": "x"}])
def test_only_a_whole_slice_may_be_kept(served: World, asked: dict[str, str]) -> None:
    reply = served.partial(**asked)

    assert reply.header("Cache-Control") == ("private, no-cache" if reply.status == 200 else "no-store")

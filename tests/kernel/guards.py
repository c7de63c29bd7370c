"""The guards of the kernel, for the mutation run: take one away, and the named tests must fail."""

from __future__ import annotations

from tests.harness.mutation import Guard


def kernel(module: str, name: str, guard: str, without: str, tests: str = "") -> Guard:
    files = " ".join(f"tests/kernel/test_{part}.py" for part in (tests or module).split())
    return Guard(name, f"chalicelib/kernel/{module}.py", guard, without, files)


GUARDS = [
    kernel("codec", "depth", "len(_OPENERS.findall(raw)) > MAX_DEPTH and", "False and"),
    kernel("codec", "number range", "if _SUSPICIOUS_NUMBER.search(raw):", "if False:"),
    kernel("codec", "float range", "isinstance(node, float) and not abs(node) <= LARGEST_FLOAT", "False"),
    kernel("codec", "integer digits", "isinstance(node, int) and not -(10**MAX", "False and not -(10**MAX"),
    kernel("codec", "duplicate keys", "    if refuse_duplicates:\n", "    if False:\n"),
    kernel("codec", "NaN", "allow_inf_nan=False", "allow_inf_nan=True"),
    kernel("keys", "weak keys", " or is_weak(key)", ""),
    kernel("keys", "lengths", "len(key) != KEY_BYTES or len(signature) != SIGNATURE_BYTES or ", ""),
    kernel(
        "keys",
        "marker bit chooses",
        "check = _verify_sr25519 if scheme == SR25519 else _verify_ed25519",
        "check = lambda *given: _verify_sr25519(*given) or _verify_ed25519(*given)",
    ),
    kernel("keys", "schemes of the route", "if scheme not in schemes:", "if False:"),
    kernel("keys", "no point, no scalar", "except ValueError:  # neither", "except KeyError:  # neither"),
    kernel("keys", "checksum", "if _checksum(body) != checksum:", "if False:"),
    kernel("keys", "network prefix", "if body[0] != SS58_PREFIX:", "if False:"),
    kernel("keys", "canonical base64", '.rstrip(b"=").decode() != match[1]:', '.rstrip(b"=").decode() == "":'),
    kernel("keys", "hex prefix of the route", "if not match or match[1] not in prefixes:", "if not match:"),
    kernel("single_use", "condition", "when=when, **values)", 'when="", **{})'),
    kernel("single_use", "condition in a transaction", "when=_FREE, now=clock.now())", 'when="")'),
    kernel("single_use", "our own clock", " OR #expires_at < :now", " OR #expires_at <= :now"),
    kernel("single_use", "one use", " OR #use = :use", " OR #use <> :sk"),
    kernel("limits", "full bucket", 'when="#arrival <= :latest"', 'when="#arrival <= :latest OR #arrival > :latest"'),
    kernel("limits", "rounding", "latest=latest + _ROUNDING_SECONDS", "latest=latest"),
    kernel("limits", "full window", "#closes_at > :now AND #taken < :count", "#closes_at > :now", "windows"),
    kernel("tables", "mark of an update", "request = _marked_update(request, mark)", "pass"),
    kernel("tables", "mark of a put", 'write.action == "Put" and "ConditionExpression" in request', "False"),
    kernel("tables", "mark is ours", "failure.old.get(_MARK) == mark", "failure.old.get(_MARK) is not None"),
    kernel("tables", "put_new", 'self.put(item, when="attribute_not_exists(#pk)")', "self.put(item)"),
    kernel("tables", "one token per transaction", "token or clock.new_uuid()", 'token or "same"'),
    kernel("tables", "conflicts are waited out", "conflicts += 1\n", "raise failure from None\n"),
    kernel("tables", "bounded tries", "while failures < TRIES and", "while failures < 9 and"),
    kernel("tables", "condition wins", "    if failed:\n", "    if failed and len(codes) == 1:\n"),
    kernel("tables", "one pair of parentheses", 'return condition if condition.startswith("(") else', "return"),
    kernel("tables", "left over by a batch", 'answer.get("UnprocessedKeys") or {}', "{}"),
    kernel("tokens", "empty candidate", "for candidate in accepted if candidate]", "for candidate in accepted]"),
    kernel("blobs", "write only what is new", ' | {"IfNoneMatch": "*"}', ""),
    kernel("blobs", "missing bucket", '_MISSING = {"NoSuchKey",', '_MISSING = {"NoSuchBucket", "NoSuchKey",'),
    kernel("http", "nothing unexpected leaves", "except Exception:  # noqa: BLE001 - the edge", "except OSError:  # the edge"),
    kernel("http", "nothing is echoed whole", "echo[:MAX_ECHO] if isinstance(echo, str) else echo", "echo"),
    kernel("routing", "size cap", "if len(request.body) > route.max_body:", "if False:", "http"),
    kernel("routing", "trailing slash", "and not self.trailing_slash:", "and False:", "http"),
    kernel("routing", "preflight echoes names only", "wanted if _HEADER_NAMES.fullmatch(wanted) else", "wanted or", "http"),
    kernel("routing", "origins on the list", "if origin in origins else {}", "if True else {}", "http"),
    kernel("routing", "strangers before parsers", "        if self.auth:\n", "        if False:\n", "http"),
    kernel("chain", "not backwards", '_NOT_BACKWARDS = "attribute_not_exists(#block) OR #block <= :block"',
           '_NOT_BACKWARDS = "attribute_not_exists(#nothing)"'),
    kernel("chain", "whole snapshots", 'not pages or len(pages) != pages[0]["pages"]', "not pages"),
    kernel("chain", "versions of their own", 'f"{digest}-{clock.new_hex(4)}"', "digest"),
    kernel("chain", "one neuron per uid and hotkey", 'for field in ("uid", "hotkey"):', "for field in ():"),
    kernel("chain_source", "clock that ran away", "if self.block + passed >= _LARGEST_BLOCK:", "if False:", "chain"),
    kernel("jobs", "lease", "attribute_not_exists(#running_until) OR #running_until < :now",
           "attribute_not_exists(#nothing)"),
    kernel("jobs", "once per interval", " AND (attribute_not_exists(#last_success_at) OR #last_success_at <= :not_before)",
           " AND (attribute_not_exists(#nothing) OR #nothing <= :not_before)"),
    kernel("jobs", "a broken job stops no other", "except Exception as error:  # noqa: BLE001 - one broken job",
           "except OSError as error:  # one broken job"),
    kernel("settings", "range", "    if below or above:\n", "    if False:\n"),
    kernel("mounts", "one system per prefix", "if prefix in found.values():", "if False:"),
    kernel("pages", "files of the site alone", "content = _files().get(name)",
           "content = _files().get(name) or (_SITE / name).read_bytes()", "openapi"),
]  # fmt: skip

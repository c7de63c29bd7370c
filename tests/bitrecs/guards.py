"""Bitrecs' guards, for the mutation run: signatures, doors, locks, files from strangers, claims, what is hidden."""

from __future__ import annotations

from tests.harness.mutation import Part

bitrecs = Part("chalicelib/bitrecs", "bitrecs")

GUARDS = [
    # who signed
    bitrecs("routes_proof", "weak keys", "if keys.is_weak(key):", "if False:", "submit_doors"),
    bitrecs("routes_proof", "nonces have a form", " and sent.is_well_formed", "", "submit_signatures"),
    bitrecs("domain", "digits alone", "not _SECONDS.fullmatch(timestamp) or ", "", "submit_signatures"),
    bitrecs("domain", "the window", "abs(int(now) - int(timestamp)) > drift", "False", "submit_signatures"),
    bitrecs(
        "routes_intake",
        "nonces are used once",
        "if not store.burn_nonces(attempt.body.hotkey, transport.nonce, transport.t_nonce, seconds=seconds):",
        "if False:",
        "submit_locks",
    ),
    bitrecs("routes_proof", "a header once", '"" if request.repeats(name) else ', "", "submit_signatures"),
    bitrecs("routes_work", "whole seconds", "abs(int(clock.now()) - body", "abs(clock.now() - body", "evaluation"),
    bitrecs("routes_proof", "curves switched off", "schemes=schemes, ", "", "submit_signatures"),
    # doors
    bitrecs("domain", "pauses between sets", "if wait > 0:", "if False:", "submit_locks"),
    bitrecs(
        "routes_gate",
        "counters that fail",
        "    except Unavailable as outage:",
        "    except ZeroDivisionError as outage:",
        "submit_doors",
    ),
    bitrecs("domain", "maintenance", "if settings.disallow_uploads:", "if False:", "submit_doors"),
    bitrecs("domain", "the switch", "if not standing.enabled:", "if False:", "submit_doors"),
    bitrecs("domain_stages", "old heartbeats", "if now - at <= timeout and not slot", "if not slot", "submit_doors"),
    bitrecs(
        "domain", "accepted per interval", "if standing.accepted >= settings.", "if False and settings.", "submit_doors"
    ),
    bitrecs("domain", "validators cannot mine", "if standing.is_validator:", "if False:", "submit_doors"),
    bitrecs("domain", "bans", "if standing.ban is not None:", "if False:", "submit_locks"),
    bitrecs("domain", "slot 0", "if uid == 0:", "if False:", "submit_locks"),
    bitrecs(
        "domain", "commitments from the future", "first <= reveal[0] <= block", "first <= reveal[0]", "submit_locks"
    ),
    bitrecs(
        "domain", "commitments of earlier cycles", "first <= reveal[0] <= block", "reveal[0] <= block", "submit_locks"
    ),
    bitrecs("domain", "one commitment", "(single and len(reveals) != 1)", "False", "submit_locks"),
    bitrecs(
        "routes_intake", "a stale copy of the chain", "> settings.chain_stale_seconds", "> 10**9", "submit_outside"
    ),
    bitrecs("domain", "the file's owner", "if miner_hotkey != body.hotkey:", "if False:", "submit_outside"),
    bitrecs("domain", "money", "if balance < price:", "if False:", "submit_outside"),
    bitrecs(
        "routes_intake",
        "a copy of oneself",
        "attempt.known, attempt.standing = _look_up(attempt.body, attempt.settings)\n        _check_standing(attempt)",
        "pass",
        "races:test_a_copy_that_looked_before_its_twin_was_accepted_is_told_that_it_is_a_repetition",
    ),
    # GitHub
    bitrecs("domain_gist", "anonymous gists", "gist.owner is None or ", "gist.owner and ", "submit_gist"),
    bitrecs("domain_gist", "edited gists", "len(gist.history) != 1", "False", "submit_gist"),
    bitrecs(
        "domain_gist",
        "the size that counts",
        "elif len((file.content",
        'elif not len("" or (file.content',
        "submit_gist",
    ),
    bitrecs("domain_gist", "the creation time", "isoformat() != body.created_at", "isoformat() != 0", "submit_gist"),
    bitrecs(
        "routes_intake",
        "look-ups per hotkey",
        "    if wait:\n        raise domain.rate_limited(settings.gist",
        "    if False:\n        raise domain.rate_limited(settings.gist",
        "check",
    ),
    bitrecs("routes_github", "trickling answers", "    watchdog.start()\n", "", "slowness"),
    bitrecs("routes_github", "endless answers", "if len(body) > MAX_ANSWER_BYTES:", "if False:", "slowness"),
    bitrecs("routes_github", "half answers", "if not complete or ", "if ", "slowness"),
    # YAML
    bitrecs("domain_artifact", "depth", "len(self._open) < MAX_DEPTH", "True", "policy"),
    bitrecs("domain_artifact", "nodes", "self._nodes <= MAX_NODES", "True", "policy"),
    bitrecs("domain_artifact", "anchors", "event.anchor is None", "True", "policy"),
    bitrecs("domain_artifact", "tags", "event.tag is None", "True", "policy"),
    bitrecs("domain_artifact", "duplicate keys", "text not in self._open[-1]", "True", "policy"),
    bitrecs("domain_artifact", "Unicode", 'is_unicode(text), "not', 'True, "not', "policy"),
    bitrecs(
        "domain_artifact",
        "PyYAML's own slips",
        "except (ValueError, OverflowError) as error:",
        "except KeyError as error:",
        "fuzz",
    ),
    bitrecs("domain_artifact", "keys are text", 'not self._awaits_key(), "a key', 'True, "a key', "policy"),
    bitrecs("domain_policy", "deep expressions", "if unusual <= _PARSED_TOKENS:", "if True:", "policy"),
    # one agent each
    bitrecs("store", "the hotkey's lock", '{hotkey}", **lock}, when=free, **values)', '{hotkey}", **lock})', "races"),
    bitrecs(
        "store",
        "the content's lock",
        'when="attribute_not_exists(#pk)" if new.content_is_unique else ""',
        'when=""',
        "races",
    ),
    bitrecs("store", "the interval's places", "OR #count < :most", "OR #count < :most OR #count >= :most", "races"),
    bitrecs("routes_intake", "a silent index", "if settings.similarity_fail_open:", "if True:", "similarity"),
    bitrecs(
        "tasks_index",
        "vectors of another version",
        'if manifest["segments"] and manifest["version"] != version:\n        raise',
        "if False:\n        raise",
        "similarity",
    ),
    # work
    bitrecs(
        "store_work",
        "a place is taken once",
        "#free > :none AND NOT contains",
        "(#free > :none OR #free <= :none) AND NOT contains",
        "races",
    ),
    bitrecs("store_work", "one evaluation per session", " AND attribute_not_exists(#evaluation_id)", "", "races"),
    bitrecs(
        "store_work",
        "banned in a queue",
        'table.checking("BAN", entry.hotkey, when="attribute_not_exists(#pk)"),',
        "",
        "races",
    ),
    bitrecs(
        "store_work",
        "one session per name",
        "OR #{slot}.#at <= :dead",
        "OR #{slot}.#at <= :dead OR #{slot}.#at > :dead",
        "evaluation",
    ),
    bitrecs(
        "store_work",
        "a settled place moves once",
        '_UNMOVED = "#rev = :rev"',
        '_UNMOVED = "#rev = :rev OR #rev <> :rev"',
        "races",
    ),
    bitrecs(
        "domain_stages", "one state at a time", 'wanted not in {RUN_ORDER[forward], "error"}', "False", "evaluation"
    ),
    bitrecs("domain_artifact", "short models", 'if len(texts["model"]) > MAX_MODEL_CHARACTERS:', "if False:", "policy"),
    bitrecs(
        "domain_stages", "as Lambda counts", "json.dumps(json.dumps(value, ensure_ascii=False))", "str(value)", "limits"
    ),
    bitrecs("domain_stages", "results have a ceiling", '_size(found.get("test_results")) > MOST', "0 > MOST", "limits"),
    bitrecs(
        "tasks_sessions", "a session's age", "<= settings.validator_heartbeat_timeout_seconds", "<= 10**9", "evaluation"
    ),
    bitrecs("tasks_sessions", "every run has ended", "if unfinished and not ends_session:", "if False:", "evaluation"),
    # what is hidden
    bitrecs("domain", "prompts", "return status in TERMINAL", "return True", "reads"),
    bitrecs("routes_reads", "temporary keys", 'session.get("agent_id") != query.agent_id', "False", "evaluation"),
    bitrecs(
        "routes_reads",
        "logs quote prompts",
        "if not caller.has_key and not domain",
        "if False and not domain",
        "evaluation",
    ),
    bitrecs("store", "revoked keys", '"revoked_at" not in item and ', "", "evaluation"),
    bitrecs("routes_gate", "closed reads", "if not has_key and not settings.public_reads:", "if False:", "evaluation"),
]

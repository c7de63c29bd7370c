"""Experts' guards, for the mutation run: files of strangers, URLs, signatures, the pointer, rounds."""

from __future__ import annotations

from tests.harness.mutation import Guard, Part

experts = Part("chalicelib/experts", "experts")
LENGTHS = "hostile_headers:test_a_header_s_length_is_believed_within_the_file_and_the_limit_alone"
HEADERS = "hostile_headers:test_a_header_that_lies_is_refused"
PICKLES = "hostile_files:test_a_pickle_that_wants_more_is_refused"
STORAGES = "hostile_files:test_a_tensor_that_is_not_what_its_storage_holds_is_refused"
REASONS = "hostile_files:test_the_reason_is_the_rule_that_was_broken_first"
ZIPS = "hostile_files:test_a_container_that_lies_is_refused"
ASSIGNMENTS = "publishing:test_an_assignment_that_makes_no_sense_is_refused"
INDEX = "publishing:test_an_index_is_believed_for_nothing"
NAMES = "publishing:test_a_version_that_cannot_be_told_or_followed_is_refused"
RULES = "submissions:test_a_checkpoint_that_breaks_a_rule_is_rejected_with_the_reason"
ANSWERS = "fetching:test_other_answers_are_the_end"
URLS = "addresses:test_everything_else_is_refused"
PRIVATE = "addresses:test_a_private_address_is_seen_in_every_disguise"
SLOT = "slots:test_a_hotkey_has_one_slot_until_its_fetch_is_over"
SLOTS = "slots:test_no_more_than_a_few_fetch_at_once"
TRANSFER = "tests/experts/test_transfer.py"
LOSSES = "submissions:test_losses_that_cannot_be_are_rejected"

MODELS = [
    experts("tensors", "header length", "if not _SMALLEST_HEADER <= length <= largest:", "if False:", LENGTHS),
    experts("tensors", "header within the file", "if LENGTH_BYTES + length > file_size:", "if False:", LENGTHS),
    experts("tensors", "one name once", "if len(found) != len(pairs):", "if False:", HEADERS),
    experts("tensors", "bytes are what shapes say", "if end - begin != size_of(dtype, shape):", "if False:", HEADERS),
    experts("tensors", "no hole, no overlap", "if tensor.begin != position:", "if False:", HEADERS),
    experts("tensors", "the file is filled", "if position != data_bytes:", "if False:", HEADERS),
    experts("tensors", "text is Unicode", "if not is_unicode(", "if not bool(", HEADERS),
    experts("tensors", "known dtypes", "or dtype not in BITS:", "or not dtype:", HEADERS),
    experts("slices", "an expert has one group", "!= group:", "is None:", ASSIGNMENTS),
    experts("slices", "experts exist", "    if missing:\n        layer,", "    if False:\n        layer,", ASSIGNMENTS),
    experts("slices", "ids count once", "if len({pair[place] for pair in pairs}) != len(pairs):", "if False:", ASSIGNMENTS),
    experts("slices", "most parts", "if len(found) > MOST_PARTS:", "if False:",
            "planner:test_a_range_above_five_gibibytes_is_split_and_too_many_parts_are_refused"),
    experts("tasks_publishing", "a name for headers", "if not _VERSION_NAME.fullmatch(model_version):", "if False:", NAMES),
    experts("tasks_publishing", "a block to be above", "if not 0 <= block_number < _LARGEST_BLOCK:", "if False:", NAMES),
    experts("tasks_publishing", "the index agrees", "if weights != stands:", "if False:", INDEX),
    experts("tasks_publishing", "total size", "if total is not None and total != sum(", "if total is None and 0 != sum(", INDEX),
    experts("tasks_publishing", "shards lie beside the index", '"/" not in name and name.endswith', "name.endswith",
            "publishing:test_shards_lie_beside_their_index"),
    experts("tasks_publishing", "blocks only rise", ">= made.block_number:", "> 10**18:",
            "publishing:test_a_publication_is_idempotent_and_blocks_only_rise"),
    Guard("a block of the chain", "subnetctl/experts.py", "if block <= now + _NOT_COPIED_YET:", "if block:",
          "tests/experts/test_commands.py::test_a_block_that_the_chain_has_not_is_refused_where_the_chain_is_a_real_one"),
    experts("tasks_publishing", "blocks add up", "if sum(t.size for b in blocks for t in b.tensors) != sum(", "if 0 > sum(",
            "publishing:test_blocks_that_do_not_add_up_are_never_served"),
    experts("tasks_publishing", "URLs stay good", "if newer and min(newer) < oldest:", "if newer:",
            "retirement:test_old_versions_go_but_never_under_a_running_download"),
    experts("tasks_publishing", "open uploads go", "multipart.abort_below(store.models(), prefix)", "pass",
            "publishing:test_what_killed_processes_left_open_is_given_up"),
    Guard("a piece goes on where it broke", "subnetctl/experts_transfer.py", "position += len(chunk)", "pass", TRANSFER),
    Guard("one download a target", "subnetctl/experts_transfer.py", "fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)",
          "pass", TRANSFER),
    Guard("a damaged envelope is no dead end", "subnetctl/experts_transfer.py", "except tensors.BrokenFile:", "except KeyError:",
          TRANSFER),
    Guard("a URL that ended is renewed", "subnetctl/experts_transfer.py", "if answer.status == _EXPIRED and", "if False and",
          TRANSFER),
    experts("tasks_publishing", "what is referred to stays", "if key not in kept:", "if key:",
            "rounds:test_what_a_later_version_took_over_outlives_the_version_that_made_it"),
    experts("store", "the pointer moves from its base", '"#version_id = :base AND #block_number < :block"',
            '"attribute_exists(#pk) OR #version_id = :base OR #block_number < :block"',
            "rounds:test_a_merge_that_comes_late_loses"),
    experts("tasks_composing", "exactly this version", "etag=source.etag)\n\n\ndef _graft", 'etag="*")\n\n\ndef _graft',
            "publishing:test_storage_copies_exactly_the_version_that_was_planned"),
]  # fmt: skip

FILES = [
    experts("pickles", "allowed globals", "if full not in _ALLOWED:", "if False:",
            "hostile_files:test_a_forbidden_global_is_named"),
    experts("pickles", "what may be called", 'raise Forbidden("the pickle calls what may not be called")',
            "self.push({})", REASONS),
    experts("pickles", "attributes", 'raise Forbidden("the pickle sets attributes")', "pass", REASONS),
    experts("pickles", "one storage, one tensor", "if view.storage.key in used:", "if False:", STORAGES),
    experts("pickles", "contiguous", "if not _is_contiguous(view):", "if False:", STORAGES),
    experts("pickles", "within the storage", "view.offset + count > storage.count:", "False:", STORAGES),
    experts("pickles", "the storage's bytes", "if end - begin != storage.count * storage.item_bytes:", "if False:",
            STORAGES),
    experts("checkpoints", "stored as it is", "if method or flags & _ENCRYPTED:", "if False:", ZIPS),
    experts("checkpoints", "one name, one member", "if len({member.name for member in members}) != len(members):",
            "if False:", REASONS),
    experts("checkpoints", "no way out", 'or ".." in name.split("/"):', "or False:", ZIPS),
    experts("checkpoints", "members do not overlap", "or begin + member.size > limit:", "or False:", REASONS),
    experts("checkpoints", "two views agree", "!= member.name.encode():", "is None:", ZIPS),
    experts("checkpoints", "nothing else in the directory", "    if position != len(raw):", "    if False:", REASONS),
    experts("checkpoints", "no other tensors", "    if extra:", "    if False:", RULES),
    experts("checkpoints", "all tensors", "    if missing:", "    if False:", RULES),
    experts("checkpoints", "shapes", "if piece.shape != tensor.shape:", "if False:", RULES),
    experts("checkpoints", "dtypes", "    if not castable:", "    if False:", RULES),
    experts("tasks_evaluation", "finite", "if any(checkpoints.has_nonfinite(", "if False and any(checkpoints.has_nonfinite(",
            RULES),
    experts("tasks_evaluation", "distance", 'math.sqrt(sums["moved"]) > limit * math', "0 > limit * math", RULES),
    experts("tasks_evaluation", "losses below zero", "if candidate.val_loss < 0:", "if False:", LOSSES),
    experts("tasks_evaluation", "skipped batches", "if skipped > settings.max_nonfinite", "if False and settings.max_nonfinite",
            LOSSES),
    experts("tasks_merging", "a step stays finite", 'if not told["finite"]:', "if False:",
            "rounds:test_a_step_that_leads_to_no_number_drops_the_whole_merge"),
]  # fmt: skip

FETCHING = [
    experts("addresses", "no fragment", 'if match["fragment"] is not None:', "if False:", URLS),
    experts("addresses", "no address", 'if ":" in host or _NUMBER.fullmatch(labels[-1]):', "if False:", URLS),
    experts("addresses", "no inner names", "or labels[-1] in _PRIVATE_ENDINGS", "", URLS),
    experts("addresses", "ports", "if port is not None and port not in ports and not private:", "if False:", URLS),
    experts("addresses", "https", 'if scheme != "https" and not (', "if False and not (", URLS),
    experts("addresses", "carried addresses", "return all(is_public(str(inner)) for inner in _carried(found))",
            "return True", PRIVATE),
    experts("addresses", "denied networks", "any(found in network for network in _DENIED if _same(found, network))",
            "False", PRIVATE),
    experts("tasks_fetching", "public addresses", "if not found or not all(allowed(address) for address in found):",
            "if not found:", "fetching:test_no_socket_is_opened_to_a_private_address"),
    experts("tasks_fetching", "the judged address", "if connection.getpeername()[0] not in found:", "if False:",
            "fetching:test_a_connection_that_ends_up_elsewhere_is_dropped"),
    experts("tasks_fetching", "a cap", "if int(text) > cap:", "if False:", ANSWERS),
    experts("tasks_fetching", "plain bytes", 'if reply.headers.get("content-encoding", "identity").lower() != "identity":',
            "if False:", ANSWERS),
    experts("tasks_fetching", "one length", 'or (name in headers and name == "content-length"):', "or False:", ANSWERS),
    experts("tasks_fetching", "no other framing", 'if "transfer-encoding" in reply.headers or not', "if not", ANSWERS),
    experts("tasks_fetching", "speed", "deadline.check_speed(length - left)", "pass",
            "fetching:test_a_server_that_drips_its_body_is_cut_off"),
    experts("tasks_fetching", "an end", "        if left <= 0:\n            text =", "        if False:\n            text =",
            "fetching:test_the_whole_fetch_has_an_end"),
    experts("domain", "one fetch per hotkey", "if pubkey in others or", "if", SLOT),
    experts("domain", "fetches at once", "or len(others) >= limit:", "or False:", SLOTS),
    experts("domain", "a lease ends", 'if other["until"] > now and', "if", "slots:test_a_slot_outlives_a_dead_flow_by_no_more_than_its_fetch"),
    experts("store_slots", "nobody was faster", '"attribute_not_exists(#turn) OR #turn = :turn"', '":turn = :turn"', SLOTS),
    experts("tasks_rounds", "a refused fetch is over", "    tasks_slots.give_back(submission_id)\n    kind,", "    kind,", SLOT),
    experts("tasks_rounds", "a fetch is over", "    tasks_slots.give_back(submission_id)\n    item =", "    item =",
            "slots:test_who_waited_fetches_when_a_fetch_is_over"),
]  # fmt: skip

REQUESTS = [
    experts("routes_delivery", "a header once", "    if not request.repeats(name):", "    if True:",
            "delivery:test_a_header_that_comes_twice_counts_as_joined_by_a_comma"),
    experts("routes", "signature", "if not keys.verify(key, message, raw, schemes=settings.signature_schemes):",
            "if False:", "submit:test_what_was_signed_cannot_be_changed"),
    experts("routes", "health always answers", "except (Unavailable, RuntimeError):", "except KeyError:",
            "health:test_a_store_that_does_not_answer_makes_health_degraded"),
    experts("routes", "phase", "domain.check_phase(clockwork_now, block, settings.block_seconds)", "pass",
            "submit:test_outside_the_submit_phase_it_is_423_and_says_when"),
    experts("routes", "window", "domain.check_block(clockwork_now, given.block_number, block, strict", "dict(strict",
            "submit:test_a_block_lies_in_this_cycle_after_distribution"),
    experts("routes", "largest body", "if len(request.body) > largest:", "if False:",
            "submit:test_a_body_over_the_limit_is_refused"),
    experts("routes", "content type", "if kind not in _JSON_TYPES:", "if False:",
            "submit:test_another_content_type_is_never_taken"),
    experts("domain", "registered", "if not registered:", "if False:", "submit:test_an_unregistered_hotkey_is_refused"),
    experts("domain", "a fresh block", "if observed_at is None or now - observed_at > oldest:", "if False:",
            "submit:test_without_a_fresh_block_nothing_is_decided"),
    experts("domain", "types", "if type(value) is not wanted:", "if value is None:",
            "submit:test_each_field_is_there_and_of_its_type"),
    experts("store", "hotkey and block once", 'when="attribute_not_exists(#pk) OR #ttl < :now", now=int(now)',
            'when="attribute_not_exists(#pk) OR #ttl > :now", now=int(now)',
            "submit:test_fifty_copies_at_once_are_one_submission"),
    experts("store", "blocks per cycle", 'when="attribute_not_exists(#count) OR #count < :limit",\n            id=',
            'when="attribute_not_exists(#count) OR #count < :limit OR #count >= :limit",\n            id=',
            "submit:test_a_hotkey_has_three_blocks_a_cycle"),
    experts("store", "tokens expire", 'or item["expires_at"] > clock.now()', "or True",
            "delivery:test_a_registered_token_counts_until_it_is_revoked_or_expires"),
    experts("store", "URLs per cycle", "            return None\n        return grant_id", "            return grant_id\n"
            "        return grant_id", "delivery:test_urls_are_limited_per_cycle_and_other_answers_are_not"),
    experts("routes_delivery", "the account", 'who = caller.hotkey or f"{caller.digest}#{request.ip}"',
            'who = f"{caller.digest}#{wanted.hotkey}"',
            "delivery:test_another_hotkey_in_the_header_opens_no_new_account"),
    experts("routes_delivery", "objects stand", '    _check_stands(wanted.wire["key"])\n', "",
            "delivery:test_a_deleted_slice_is_no_redirect_to_nothing"),
    experts("routes_delivery", "the version asked for", "if wanted is not None and not caching.names(wanted, etag):",
            "if False:", "delivery:test_a_version_flip_gives_whole_answers_before_and_after"),
    experts("routes_delivery", "one use", "if not store.use_signature(hotkey, timestamp, expires_at=int(timestamp) + 2 * skew):",
            "if False:", "full_model:test_a_signature_for_the_full_model_counts_once"),
    experts("routes_delivery", "skew", "abs(int(now) - int(timestamp)) <= skew", "True",
            "full_model:test_a_wrong_signature_is_refused"),
    experts("domain", "validators", "    if not allowed:", "    if False:",
            "full_model:test_a_bound_token_is_an_identity"),
    experts("domain", "a fresh metagraph", "if synced_at is None or now - synced_at > oldest:", "if False:",
            "full_model:test_a_stale_metagraph_accuses_nobody"),
]  # fmt: skip

ROUNDS = [
    experts("domain", "copies by bytes or score", "if same and entry.submission_id != other.submission_id:", "if False:",
            "rounds:test_copies_get_nothing"),
    experts("domain", "better than the base", "if entry.score > 0 and entry.submission_id not in copied]", "]",
            "rounds:test_a_round_without_a_better_checkpoint_changes_nothing"),
    experts("tasks_rounds", "reasons are printable", "printable(text, _LONGEST_REASON)", "text[:_LONGEST_REASON]",
            "submissions:test_a_reason_holds_nothing_that_a_terminal_would_obey"),
    experts("tasks_rounds", "the newest counts", 'if latest not in {None, item["submission_id"]}:', "if False:",
            "submissions:test_a_newer_submission_takes_the_older_one_s_place"),
    experts("tasks_rounds", "the base is there", "    if version is None:", "    if False:",
            "submissions:test_a_checkpoint_of_a_retired_version_is_told_so"),
    experts("tasks_rounds", "the block is past", "if _is_over(cycle, head.block):", "if True:",
            "rounds:test_a_round_waits_for_its_submissions_and_for_the_block"),
    experts("tasks_rounds", "all are final", "if _are_settled(cycle, members):", "if True:",
            "rounds:test_a_round_waits_for_its_submissions_and_for_the_block"),
    experts("tasks_rounds", "time from the end on", 'max(item["updated_at"], over_since)', 'item["updated_at"]',
            "rounds:test_what_was_held_for_the_end_of_the_phase_is_not_given_up_at_once"),
    experts("tasks_rounds", "once", 'if owed is None or owed["state"] != store_merges.OWED:', "if owed is None:",
            "rounds:test_a_merge_killed_anywhere_leaves_one_whole_version_and_can_be_repeated"),
]  # fmt: skip

GUARDS = [*MODELS, *FILES, *FETCHING, *REQUESTS, *ROUNDS]

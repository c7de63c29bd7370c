"""PRISM's guards, for the mutation run: signed uploads, archives, review, leases, attribution, the sandbox."""

from __future__ import annotations

from tests.harness.mutation import Part

prism = Part("chalicelib/prism", "prism")
evaluator = Part("layers/evaluator", "prism", "sandbox")

GUARDS = [
    prism("domain", "window", "if abs(int(now) - int(timestamp)) > window:", "if False:", "intake"),
    prism("domain", "digits alone", "if not _TIMESTAMP.fullmatch(timestamp):", "if not timestamp:", "intake"),
    prism("domain", "the body is signed", "hashlib.sha256(body).hexdigest()", "hashlib.sha256().hexdigest()", "intake"),
    prism(
        "domain", "bytes, not letters", 'len(code.encode("utf-8", "replace")) > limit', "len(code) > limit", "intake"
    ),
    prism("domain", "metadata's size", "    if len(text.encode(", "    if False and len(text.encode(", "intake"),
    prism("domain", "metadata's depth", "if _depth(metadata) > MAX_METADATA_DEPTH:", "if False:", "intake"),
    prism("domain", "no token, no signature", "return bool(token) and ", "return ", "intake"),
    prism("domain", "penalty", 'clamp(metrics.get("penalty", 0.0))', 'metrics.get("penalty", 0.0)', "assignments"),
    prism("domain", "q_arch", 'clamp(metrics.get("q_arch", 0.0))', 'metrics.get("q_arch", 0.0)', "assignments"),
    prism("domain", "allow-list", "if allowed and hotkey not in allowed:", "if False:", "assignments"),
    prism(
        "domain",
        "lease's holder",
        "if hotkey is not None and hotkey != assignment.validator_hotkey:",
        "if False:",
        "assignments",
    ),
    prism("domain", "no revival", "if assignment.status not in ACTIVE:", "if False:", "assignments"),
    prism("domain", "completed stays", "if assignment.status == REJECTED:", "if True:", "assignments"),
    prism("domain", "one result", "if dict(metrics) != assignment.metrics:", "if False:", "assignments"),
    prism(
        "domain",
        "three attempts",
        "return tries < most * (1 + pardons)",
        "return True",
        "assignments",
    ),
    prism("store_commit", "a lease's end is told", "if after.status == EXPIRED", "if False", "assignments"),
    prism("store", "told once", 'if table.delete("EXPIRED", str(item["sk"])):', "if True:", "assignments"),
    prism(
        "domain",
        "q_arch is measured",
        'return None if "q_arch" in metrics else',
        "return None if metrics else",
        "worker",
    ),
    prism("domain", "metrics are numbers", "or not all(map(_is_measured, metrics.values()))", "", "worker"),
    prism("domain", "a family once", "if known.equal:", "if False:", "attribution"),
    prism(
        "domain",
        "a family that exists",
        "if resolution.architecture_id and not known.requested:",
        "if False:",
        "attribution",
    ),
    prism(
        "domain", "a family's own variant", "if known.variant.architecture_id != family.id:", "if False:", "attribution"
    ),
    prism(
        "attribution",
        "the same files take nothing over",
        "if facts.family_hash in {family.canonical_hash, family.family_hash} or facts.hotkey == family.owner_hotkey:",
        "if False:",
        "attribution",
    ),
    prism(
        "attribution",
        "transfer is a knob",
        "if not settings.architecture_auto_transfer or ",
        "if ",
        "attribution",
    ),
    prism(
        "attribution",
        "unknown architectures wait",
        'Choice(HOLD, 0.0, "requested',
        'Choice(NEW, 1.0, "requested',
        "attribution",
    ),
    prism(
        "attribution",
        "half alike waits",
        'Choice(HOLD, likeness, "ambiguous architecture similarity", best)',
        'Choice(NEW, likeness, "ambiguous")',
        "attribution",
    ),
    prism(
        "attribution",
        "gate of the current best",
        "wins = case.best is None or _trains_better(case, case.best)",
        "wins = True",
        "attribution",
    ),
    prism("attribution", "gate of a transfer", "    if not better:\n", "    if False:\n", "attribution"),
    prism("attribution", "one current best", "if case.best and case.best.id != winner.id:", "if False:", "attribution"),
    prism("archive", "symlinks", "if stat.S_ISLNK(entry.mode):", "if False:", "archive"),
    prism("archive", "number of files", "if len(files) > limits.max_files:", "if False:", "archive"),
    prism("archive", "kinds of files", "if special or not ", "if False and not ", "archive"),
    prism("archive", "Python in capitals", 'if suffix.lower() == ".py" else path', "if False else path", "review"),
    prism("archive", "bombs", "if bombs or sum(", "if sum(", "archive"),
    prism("archive", "encrypted", "if entry.flags & (_ENCRYPTED | _STRONG | _MASKED):", "if False:", "archive"),
    prism("archive", "twice", "if key in taken:", "if False:", "archive"),
    prism("archive", "paths", "    if unsafe:\n", "    if False:\n", "archive"),
    prism(
        "archive",
        "the other view",
        "if flags != entry.flags or method != entry.method or not agrees:",
        "if False:",
        "archive",
    ),
    prism("archive", "bytes behind", "if at + _END.size + comment != len(raw):", "if False:", "archive"),
    prism("archive", "checksum", " or zlib.crc32(content) != entry.crc", "", "archive"),
    prism("inspection", "amount", "    if any(count > MAX_WORDS for", "    if any(False for", "review"),
    prism(
        "inspection", "text screen", "if any(pattern.search(screened) for pattern in _SCREEN):", "if False:", "review"
    ),
    prism(
        "inspection",
        "imports",
        '    if found:\n        raise Rejected("forbidden imports',
        '    if False:\n        raise Rejected("forbidden imports',
        "review",
    ),
    prism("inspection", "endless numbers", "    except ValueError:\n", "    except IndexError:\n", "review"),
    prism("inspection", "shadows", 'if path.endswith(part + ".py"):', "if False:", "review"),
    prism("inspection", "calls", "if name in FORBIDDEN_CALLS:", "if False:", "review"),
    prism("inspection", "attributes", "if node.attr in FORBIDDEN_ATTRIBUTES:", "if False:", "review"),
    prism("inspection", "paths", "if path == forbidden or path.startswith(", "if False and path.startswith(", "review"),
    prism("project", "aliases", "if self.check_event(yaml.AliasEvent):", "if False:", "review"),
    prism("project", "half characters", "and not is_unicode(node.value)", "and False", "review"),
    prism(
        "project", "tags that lie", "except (yaml.YAMLError, *_CONSTRUCTION_FAULTS)", "except yaml.YAMLError", "review"
    ),
    prism(
        "project", "a Python entrypoint", "if project.entrypoint not in project.python_files:", "if False:", "review"
    ),
    prism("project", "depth", "if self.depth > MAX_DEPTH:", "if False:", "review"),
    prism(
        "project",
        "size",
        '    if len(text.encode("utf-8", "replace")) > MAX_MANIFEST_BYTES:',
        "    if False:",
        "review",
    ),
    prism(
        "tasks_review",
        "only earlier ones count",
        "for member in members if member < me]",
        "for member in members if member != me]",
        "review",
    ),
    prism("tasks_review", "earlier ones are read first", "    _read_earlier(submission, settings)\n", "", "review"),
    prism(
        "tasks_review",
        "authors may improve",
        "if earlier.hotkey == submission.hotkey and not ",
        "if False and not ",
        "review",
    ),
    prism("store_review", "bounded entries", "return len(found) < MEMBERS_PER_KEY", "return True", "review"),
    prism("store_review", "a reader dies once", " AND NOT contains(#readers, :me)", "", "review"),
    prism("store_review", "reading for others ends", "#since > :long_ago AND ", "", "review"),
    prism(
        "store",
        "one lease per validator",
        'table.putting_new({"pk": f"SLOT#',
        'table.putting({"pk": f"SLOT#',
        "assignments",
    ),
    prism("store", "room for pending ones", "when=room, now", 'when="", now', "intake"),
    prism(
        "store_families",
        "families as they were read",
        'when="#version = :version", version=before.version',
        'when="attribute_exists(#pk)"',
        "assignments",
    ),
    prism("store_families", "who loses earns less", "((before, -1), (after, 1))", "((after, 1),)", "attribution"),
    prism("tasks_claim", "nobody's own", 'if entry["hotkey"] != validator:', "if True:", "assignments"),
    prism(
        "tasks_claim",
        "left to validators",
        'if settings.execution_backend == "validators_only":',
        "if False:",
        "worker",
    ),
    prism("tasks_claim", "three runs", "if not domain.may_try_again(", "if False and not (", "worker"),
    prism("tasks_claim", "only what was lost is taken back", "domain.check_pardonable(submission)", "pass", "worker"),
    prism("tasks_claim", "live runs are left alone", "elif state not in _LIVE_STATES or ", "elif ", "worker"),
    prism("routes", "the token comes once", 'if request.repeats("authorization") or not', "if not", "intake"),
    prism("routes", "closed without a token", "    if not token:\n", "    if False:\n", "intake"),
    prism("routes", "slug", "if not absent_is_fine and slug != settings.slug:", "if False:", "intake"),
    prism(
        "routes_intake", "signature", "if not insecure and not _is_signed(", "if False and not _is_signed(", "intake"
    ),
    prism("routes_intake", "development only", "settings.allow_insecure_signatures and ", "", "intake"),
    prism(
        "routes_intake",
        "headers come once",
        "    wrong += [_repeated(name) for name in sent if request.repeats(name)]\n",
        "",
        "intake",
    ),
    prism("routes_intake", "set to nothing is set", ' or PrismSettings.is_set("shared_token")', "", "intake"),
    prism(
        "routes_intake",
        "nonces are remembered",
        "expires_at=clock.now() + lifetime)",
        "expires_at=clock.now() + 1)",
        "intake",
    ),
    evaluator(
        "sandbox", "no network", '"--unshare-net", ', "", "sandbox:test_a_project_sees_no_network_and_reaches_nobody"
    ),
    evaluator(
        "sandbox", "wall clock", 'raise RunFailed("timed out")', "return", "sandbox:test_an_endless_loop_times_out"
    ),
    evaluator(
        "sandbox",
        "output",
        "if total > MAX_OUTPUT_BYTES and not self._flooded:",
        "if False:",
        "sandbox:test_a_flood_of_output_ends_it",
    ),
    evaluator(
        "sandbox",
        "nothing without bubblewrap",
        "    if not bubblewrap:\n",
        "    if False:\n",
        "sandbox:test_without_bubblewrap_nothing_runs_and_the_package_is_named",
    ),
    evaluator(
        "guest/launcher",
        "processes",
        "    (resource.RLIMIT_NPROC, processes),\n",
        "",
        "sandbox:test_a_fork_bomb_stops_at_the_limit",
    ),
    evaluator("guest/launcher", "memory", "    (resource.RLIMIT_AS, memory),\n", "", "sandbox:test_memory_is_limited"),
    evaluator(
        "judge",
        "a bad start on purpose",
        "start = min(first, _UNIFORM_LOSS)",
        "start = first",
        "sandbox:test_hooks_that_cheat_earn_no_quality",
    ),
    evaluator(
        "judge",
        "numbers only",
        "    if not math.isfinite(loss):\n",
        "    if False:\n",
        "sandbox:test_logits_that_are_no_numbers_fail",
    ),
    evaluator(
        "judge",
        "parameters",
        'if not isinstance(count, int) or not 1 <= count <= int(run["max_parameters"]):',
        "if False:",
        "sandbox:test_a_model_is_as_large_as_is_allowed",
    ),
]

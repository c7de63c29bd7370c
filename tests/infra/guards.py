"""What the template and the operator's commands promise, for the mutation run: take one away, and a test must fail."""

from __future__ import annotations

from tests.harness.mutation import Guard, Part

infra = Part("infra", "infra", "template")

GUARDS = [
    infra("stores", "tables can be restored", '{"PointInTimeRecoveryEnabled": True}', '{"PointInTimeRecoveryEnabled": False}'),
    infra("stores", "tables are protected", '"DeletionProtectionEnabled": True,', ""),
    infra("stores", "tables are encrypted", '"SSESpecification": {"SSEEnabled": True},', ""),
    infra("stores", "stores are kept", '_KEPT = {"DeletionPolicy": "Retain", "UpdateReplacePolicy": "Retain"}', '_KEPT = {"DeletionPolicy": "Delete"}'),
    infra("stores", "buckets are closed", '"PublicAccessBlockConfiguration": NOT_PUBLIC,', ""),
    infra("stores", "no bucket takes a policy for all", '"RestrictPublicBuckets": True,', '"RestrictPublicBuckets": False,'),
    infra("stores", "buckets are encrypted", '{"SSEAlgorithm": "AES256"}},\n            ]', '{"SSEAlgorithm": "AES256"}},\n            ][:0]'),
    infra("stores", "browsers may upload", '"CorsConfiguration": {"CorsRules": [_UPLOAD_RULE]},', ""),
    infra("stores", "abandoned uploads go", '"AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 2},', ""),
    infra("stores", "no plain http", '"Effect": "Deny",', '"Effect": "Allow",'),
    infra("machines", "every task is tried again", 'completed.setdefault("Retry", [RETRY])', "pass", "template fragments"),
    infra("machines", "a machine invokes what it names", 'if kind == "task"))]', 'if kind == "task") + ["prism-tick"])]', "fragments"),
    infra("events", "partial batches", '_PARTIAL = {"FunctionResponseTypes": ["ReportBatchItemFailures"]}', "_PARTIAL: dict[str, Any] = {}", "fragments"),
    infra("events", "a failing batch is split", '"BisectBatchOnFunctionError": True,', "", "fragments"),
    infra("events", "a record gets too old", '"MaximumRecordAgeInSeconds": _STREAM_RECORD_SECONDS,', "", "fragments"),
    infra("events", "a record is given up", '"MaximumRetryAttempts": _TRIES,', "", "fragments"),
    infra("events", "a hopeless record is set aside", '"DestinationConfig": {"OnFailure": {"Destination": names.queue_arn(stage, f"{system}-dead")}},', "", "fragments"),
    infra("events", "a hopeless message is set aside", '"RedrivePolicy": redrive,', "", "fragments"),
    infra("schedules", "what a schedule cannot deliver is set aside", '"DeadLetterConfig": {"Arn": dead},', ""),
    infra("watch", "alarms are heard", '"AlarmActions": [{"Ref": TOPIC}],', '"AlarmActions": [],'),
    infra("watch", "logs do not grow for ever", '"RetentionInDays": _LOG_DAYS}', '"RetentionInDays": 3653}'),
    infra("watch", "dead letters ring", "return {key: queue, **alarm(stage, name", "return {key: queue} or {**alarm(stage, name"),
    infra("gateway", "throttles of the template", '"ThrottlingRateLimit": REQUESTS_PER_SECOND,', '"ThrottlingRateLimit": 10_000,', "gateway"),
    infra("gateway", "throttles after chalice", '"throttling/burstLimit": BURST,', '"throttling/burstLimit": 5000,', "gateway"),
    infra("gateway", "an unknown path is ours", '"MISSING_AUTHENTICATION_TOKEN": _response(404,', '"MISSING_AUTHENTICATION_TOKEN": _response(403,', "gateway"),
    infra("access", "objects of one bucket", '[arn, "/*"]]}]), allow', '["*"]]}]), allow'),
    infra("access", "secrets by name", 'names.arn(service, f"secret:{name}-??????")', 'names.arn(service, "secret:*")'),
    infra("template", "the chain's copy is read only", "access.read_items if part.system == CHAIN else access.use_items", "access.use_items if part.system else access.use_items"),
    infra("template", "the laptop has no streams", "fragments.load(system, stage) for", "fragments.load(system) for"),
    infra("stages", "functions of what is served", "tasks.of_chalice(served)", "tasks.of_chalice()", "stages"),
    infra("deploy", "no store is lost", "if prepared.changes and (lost or not agree(", "if prepared.changes and (not agree(", "guards"),
    infra("changes", "what nothing keeps is lost", 'kept = change.get("PolicyAction") in _KEPT', "kept = True", "changes"),
    infra("changes", "what stands is not brought in again", "in _stores(template).items() if key not in known}", "in _stores(template).items()}", "changes"),
    infra("deploy", "a stage stays where it lives", "if pin.account != stages.EMULATOR_ACCOUNT and lives", "if not pin.account and lives", "guards"),
    Guard("ticks sleep", "chalicelib/kernel/jobs.py", "self.shortest_interval(awake=True), _SHORTEST", "self.shortest_interval(), _SHORTEST", "tests/kernel/test_jobs.py"),
    Guard("tasks of what is mounted", "app.py", "            if declared.system in served:\n", "            if declared.system:\n", "tests/infra/test_stages.py"),
]  # fmt: skip

"""What the template promises about every store, flow and role, whoever wrote the fragment."""

from __future__ import annotations

import json
from typing import Any

import pytest

import app
from chalicelib.kernel.jobs import Job
from chalicelib.leoma.store import ALL_VOTERS
from infra import machines, names, tasks, template
from local.ticker import SECONDS_OF_A_SCHEDULE

STAGES = ("local", "dev", "prod")


@pytest.fixture(scope="module", params=STAGES)
def resources(request: pytest.FixtureRequest) -> dict[str, Any]:
    built: dict[str, Any] = template.build(request.param, variables={})["Resources"]
    return built


def of_type(resources: dict[str, Any], kind: str) -> dict[str, dict[str, Any]]:
    return {key: found for key, found in resources.items() if found["Type"] == kind}


def test_every_table_is_kept_protected_encrypted_restorable_and_paid_per_request(
    resources: dict[str, Any],
) -> None:
    tables = of_type(resources, "AWS::DynamoDB::Table")
    assert len(tables) >= len(names.SYSTEMS) + 1
    for table in tables.values():
        properties = table["Properties"]
        assert table["DeletionPolicy"] == table["UpdateReplacePolicy"] == "Retain"
        assert properties["DeletionProtectionEnabled"] is True
        assert properties["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
        assert properties["SSESpecification"] == {"SSEEnabled": True}
        assert properties["BillingMode"] == "PAY_PER_REQUEST"
        assert properties["TimeToLiveSpecification"] == {"AttributeName": "ttl", "Enabled": True}


def test_every_bucket_is_kept_closed_encrypted_and_answers_tls_only(resources: dict[str, Any]) -> None:
    buckets = of_type(resources, "AWS::S3::Bucket")
    assert buckets
    for key, bucket in buckets.items():
        properties = bucket["Properties"]
        assert bucket["DeletionPolicy"] == bucket["UpdateReplacePolicy"] == "Retain"
        assert all(properties["PublicAccessBlockConfiguration"].values())
        assert len(properties["PublicAccessBlockConfiguration"]) == 4
        assert properties["OwnershipControls"]["Rules"] == [{"ObjectOwnership": "BucketOwnerEnforced"}]
        assert properties["BucketEncryption"]["ServerSideEncryptionConfiguration"]
        rules = properties["LifecycleConfiguration"]["Rules"]
        assert any("AbortIncompleteMultipartUpload" in rule for rule in rules)
        deny = resources[f"{key}Policy"]["Properties"]["PolicyDocument"]["Statement"][0]
        assert deny["Effect"] == "Deny"
        assert deny["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


def test_browsers_may_upload_to_a_bucket_and_read_what_was_stored(resources: dict[str, Any]) -> None:
    for bucket in of_type(resources, "AWS::S3::Bucket").values():
        (rule,) = bucket["Properties"]["CorsConfiguration"]["CorsRules"]
        assert {"GET", "HEAD", "PUT", "POST"} == set(rule["AllowedMethods"])
        assert rule["AllowedOrigins"] == ["*"]
        assert "ETag" in rule["ExposedHeaders"]


def test_what_is_kept_for_a_while_is_thrown_away_after_it(resources: dict[str, Any]) -> None:
    rules = {
        (key, rule["Prefix"]): rule["ExpirationInDays"]
        for key, bucket in of_type(resources, "AWS::S3::Bucket").items()
        for rule in bucket["Properties"]["LifecycleConfiguration"]["Rules"]
        if "ExpirationInDays" in rule
    }
    models = {("ExpertsModels", "scratch/"): 1, ("ExpertsModels", "sources/"): 30}
    assert rules == {**models, ("ExpertsQuarantine", ""): 14}
    for log in of_type(resources, "AWS::Logs::LogGroup").values():
        assert log["Properties"]["RetentionInDays"] == 30


def test_every_task_state_has_retry_and_catch(resources: dict[str, Any]) -> None:
    for machine in of_type(resources, "AWS::StepFunctions::StateMachine").values():
        for name, state in machines.states(machine["Properties"]["Definition"]):
            if state["Type"] == "Task":
                assert state["Retry"], name
                assert state["Catch"], name


def statements(resources: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    found = []
    for key, role in of_type(resources, "AWS::IAM::Role").items():
        for policy in role["Properties"]["Policies"]:
            found += [(key, item) for item in policy["PolicyDocument"]["Statement"]]
    for key, policy in of_type(resources, "AWS::IAM::ManagedPolicy").items():
        found += [(key, item) for item in policy["Properties"]["PolicyDocument"]["Statement"]]
    return found


def test_no_permission_has_a_wildcard_but_for_what_lies_inside_a_named_thing(
    resources: dict[str, Any],
) -> None:
    for key, statement in statements(resources):
        assert statement["Resource"], key
        if statement["Effect"] == "Deny":  # may say everything
            continue
        assert not [action for action in statement["Action"] if "*" in action], key
        for resource in statement["Resource"]:
            assert is_named(resource), (key, resource)


def is_named(resource: Any) -> bool:
    """Objects of a bucket, streams of a log group or a table, executions of a machine: none can be listed."""
    text = str(resource.get("Fn::Sub") or resource.get("Fn::Join") or resource.get("Fn::GetAtt"))
    if "*" not in text:
        return True
    if "Fn::Join" in resource:
        return bool(resource["Fn::Join"][1][1:] == ["/*"])
    named = text.removesuffix("*")
    inside = (":log-group:/aws/lambda/", ":execution:", "/stream/")
    return named.endswith((":", "/stream/")) and "*" not in named and any(part in named for part in inside)


def test_every_task_reads_the_chain_copy_and_only_its_sync_writes_it(resources: dict[str, Any]) -> None:
    writers = {
        key
        for key, statement in statements(resources)
        if "dynamodb:PutItem" in statement["Action"] and any("-chain" in str(item) for item in statement["Resource"])
    }
    assert writers == {"ChainTickRole"}


def test_a_bucket_has_the_name_that_the_knob_holds() -> None:
    built = template.build("local", variables={"LEOMA_SAMPLES_BUCKET": "mine", "SAMPLES_BUCKET": "other"})
    assert built["Resources"]["LeomaSamples"]["Properties"]["BucketName"] == "mine"
    built = template.build("local", variables={})
    assert built["Resources"]["LeomaSamples"]["Properties"]["BucketName"] == "leoma-samples"


def test_each_system_ticks_once_a_minute_and_the_chain_is_synced(resources: dict[str, Any]) -> None:
    schedules = of_type(resources, "AWS::Scheduler::Schedule")
    expected = {f"{names.logical(system)}TickSchedule" for system in ("chain", *names.SYSTEMS)}
    assert set(schedules) == expected
    for schedule in schedules.values():
        assert schedule["Properties"]["ScheduleExpression"] == "rate(1 minute)"
        target = schedule["Properties"]["Target"]
        assert target["DeadLetterConfig"]
        assert target["RetryPolicy"] == {"MaximumRetryAttempts": 0, "MaximumEventAgeInSeconds": 60}


def urgent(system: str) -> list[Job]:
    """What keeps a deployed tick of a system awake from minute to minute."""
    (jobs,) = (found for found in app.jobs() if found.system == system)
    return [job for job in jobs.jobs if job.awake and 0 < job.interval() < SECONDS_OF_A_SCHEDULE]


def test_nothing_but_the_chain_s_sync_runs_while_nobody_calls() -> None:
    assert [job.name for job in urgent("chain")] == ["sync"]
    assert not [job.name for system in names.SYSTEMS for job in urgent(system)]


@pytest.mark.parametrize("stage", ["dev", "prod"])
def test_a_job_that_a_stream_starts_has_one_that_leaves_out_what_the_jobs_write(stage: str) -> None:
    resources = template.build(stage, variables={})["Resources"]
    started = {jobs.system for jobs in app.jobs() for job in jobs.jobs if "stream" in job.on}
    sources = of_type(resources, "AWS::Lambda::EventSourceMapping").values()
    assert {str(source["Properties"]["FunctionName"]).split("-")[-2] for source in sources} == started
    for source in sources:
        table, attribute = source["Properties"]["EventSourceArn"]["Fn::GetAtt"]
        assert attribute == "StreamArn"
        assert resources[table]["Properties"]["StreamSpecification"] == {"StreamViewType": "KEYS_ONLY"}
        assert not started_by(source, "JOB", "folding")
        assert not started_by(source, "STATE", "snapshots")


def started_by(source: dict[str, Any], *key: str) -> bool:
    """Whether a write under a key passes a filter of the source."""
    return any(
        all(
            any(passes(rule, text) for rule in json.loads(each["Pattern"])["dynamodb"]["Keys"][name]["S"])
            for name, text in zip(("pk", "sk"), key, strict=True)
        )
        for each in source["Properties"]["FilterCriteria"]["Filters"]
    )


def passes(rule: str | dict[str, Any], text: str) -> bool:
    if isinstance(rule, str):
        return rule == text
    return text.startswith(rule["prefix"]) if "prefix" in rule else text not in rule["anything-but"]


@pytest.mark.parametrize(
    ("source", "key", "starts"),
    [
        ("LeomaFold", ("T#00000007", "5Validator"), True),
        ("LeomaFold", ("T#00000007", ALL_VOTERS), False),
        ("LeomaFold", ("WRITER", "5Validator"), False),
        ("BitrecsSnapshots", ("STATE", "scores"), True),
        ("BitrecsSnapshots", ("STATE", "counters"), True),
        ("BitrecsSnapshots", ("SETS", "CURRENT"), True),
        ("BitrecsSnapshots", ("SESSIONS", "LIVE"), False),
    ],
)
def test_a_stream_starts_a_tick_for_what_it_works_on(source: str, key: tuple[str, str], starts: bool) -> None:
    assert started_by(template.build("dev", variables={})["Resources"][source], *key) is starts


def test_the_laptop_has_no_streams_for_its_runner_looks_often_enough() -> None:
    resources = template.build("local", variables={})["Resources"]
    assert not of_type(resources, "AWS::Lambda::EventSourceMapping")
    assert "StreamSpecification" not in str(resources)


def test_a_stage_may_hold_one_system_alone() -> None:
    resources = template.build("dev", systems=["leoma"], variables={})["Resources"]
    tables = of_type(resources, "AWS::DynamoDB::Table")
    assert set(tables) == {"ChainTable", "LeomaTable"}


def test_a_system_may_read_the_secrets_that_its_variables_name() -> None:
    variables = {"EXPERTS_BZ_AUTH_TOKEN": "ssm:/subnets/bz", "GITHUB_TOKEN": "secretsmanager:subnets/github"}
    resources = template.build("dev", variables=variables)["Resources"]
    readers = {
        str(resource): key
        for key, statement in statements(resources)
        for resource in statement["Resource"]
        if "subnets/" in str(resource)
    }
    readable = {key for key, statement in statements(resources) if "subnets/bz" in str(statement)}
    assert readable == {"ExpertsAccess"}
    assert any("secret:subnets/github-??????" in resource for resource in readers)


def test_whatever_can_fail_rings_an_alarm_that_somebody_hears(resources: dict[str, Any]) -> None:
    alarms = [alarm["Properties"] for alarm in of_type(resources, "AWS::CloudWatch::Alarm").values()]
    assert all(alarm["AlarmActions"] == [{"Ref": "AlarmTopic"}] for alarm in alarms)
    watched = {(alarm["MetricName"], str(dimension["Value"])) for alarm in alarms for dimension in alarm["Dimensions"]}
    for name in (names.api_function(stage_of(resources)), *(task_function(resources, t) for t in tasks.declared())):
        assert ("Errors", name) in watched
    for key in of_type(resources, "AWS::StepFunctions::StateMachine"):
        assert {("ExecutionsFailed", ref(key)), ("ExecutionsTimedOut", ref(key))} <= watched
    for key in of_type(resources, "AWS::DynamoDB::Table"):
        assert {("ReadThrottleEvents", ref(key)), ("WriteThrottleEvents", ref(key))} <= watched
    for system in ("chain", *names.SYSTEMS):
        queue = {"Fn::GetAtt": [names.logical(system, "dead"), "QueueName"]}
        assert ("ApproximateNumberOfMessagesVisible", str(queue)) in watched
    assert ("5XXError", names.APP) in watched


def ref(key: str) -> str:
    return str({"Ref": key})


def stage_of(resources: dict[str, Any]) -> str:
    return str(resources["AlarmTopic"]["Properties"]["TopicName"]).split("-")[2]


def task_function(resources: dict[str, Any], task: Any) -> str:
    return names.physical(stage_of(resources), task.name)

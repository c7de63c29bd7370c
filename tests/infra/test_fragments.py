"""What a fragment may say, and what becomes of it: a made-up system, since the real ones come and go."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from infra import fragments, machines, tasks, template
from infra.template import Supplies

STREAMED = """
Resources:
  LeomaTable:
    Type: AWS::DynamoDB::Table
    Properties:
      TableName: leoma
      StreamSpecification: {StreamViewType: NEW_AND_OLD_IMAGES}
      AttributeDefinitions: [{AttributeName: recent_sk, AttributeType: N}]
      GlobalSecondaryIndexes:
        - IndexName: recent
          KeySchema:
            - {AttributeName: recent_pk, KeyType: HASH}
            - {AttributeName: recent_sk, KeyType: RANGE}
  LeomaStream:
    Type: AWS::Lambda::EventSourceMapping
    Properties:
      FunctionName: ${task:leoma-tick}
      EventSourceArn: {Fn::GetAtt: [LeomaTable, StreamArn]}
  LeomaUploads:
    Type: AWS::SQS::Queue
    Properties: {QueueName: leoma-uploads}
  LeomaUploaded:
    Type: AWS::Lambda::EventSourceMapping
    Properties:
      FunctionName: ${task:leoma-tick}
      EventSourceArn: ${queue:leoma-uploads}
  LeomaValidation:
    Type: AWS::StepFunctions::StateMachine
    Properties:
      StateMachineName: leoma-validation
      Definition:
        StartAt: Read
        States:
          Read:
            Type: Task
            Resource: ${task:leoma-tick}
            Catch: [{ErrorEquals: [States.ALL], Next: GiveUp}]
            Next: Each
          Each:
            Type: Map
            ItemProcessor:
              StartAt: One
              States:
                One:
                  Type: Task
                  Resource: ${task:pool-tick}
                  Retry: [{ErrorEquals: [States.ALL], MaxAttempts: 1}]
                  Catch: [{ErrorEquals: [States.ALL], Next: Give}]
                  End: true
                Give: {Type: Fail}
            End: true
          GiveUp: {Type: Fail}
Tasks:
  leoma-tick:
    Statements: [{Effect: Allow, Action: [ses:SendEmail], Resource: ["${table:pool}"]}]
"""


@pytest.fixture
def write(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], None]:
    """Put a text in the place of Leoma's fragment."""

    def write_now(text: str) -> None:
        for found in fragments.FOLDER.glob("*.yaml"):
            (tmp_path / found.name).write_text(found.read_text("utf-8"), "utf-8")
        (tmp_path / "leoma.yaml").write_text(text, "utf-8")
        monkeypatch.setattr(fragments, "FOLDER", tmp_path)

    return write_now


@pytest.fixture
def streamed(write: Callable[[str], None]) -> dict[str, Any]:
    write(STREAMED)
    return dict(template.build("dev", variables={})["Resources"])


def test_a_task_state_gets_retries_unless_it_has_its_own(streamed: dict[str, Any]) -> None:
    definition = streamed["LeomaValidation"]["Properties"]["Definition"]
    states = dict(machines.states(definition))
    assert states["Read"]["Retry"] == [machines.RETRY]
    assert states["One"]["Retry"] == [{"ErrorEquals": ["States.ALL"], "MaxAttempts": 1}]
    assert definition["TimeoutSeconds"] == 3600


def test_a_machine_may_invoke_the_tasks_it_names_and_nothing_else(streamed: dict[str, Any]) -> None:
    (policy,) = streamed["LeomaValidationRole"]["Properties"]["Policies"]
    (statement,) = policy["PolicyDocument"]["Statement"]
    assert statement["Action"] == ["lambda:InvokeFunction"]
    named = [resource["Fn::Sub"].rpartition(":")[2] for resource in statement["Resource"]]
    assert named == ["subnet-functions-dev-leoma-tick", "subnet-functions-dev-pool-tick"]


def test_a_machine_s_definition_is_filled_in_by_substitutions(streamed: dict[str, Any]) -> None:
    properties = streamed["LeomaValidation"]["Properties"]
    assert properties["Definition"]["States"]["Read"]["Resource"] == "${TaskLeomaTick}"
    arn = properties["DefinitionSubstitutions"]["TaskLeomaTick"]["Fn::Sub"]
    assert arn.endswith(":function:subnet-functions-dev-leoma-tick")


def test_a_machine_and_its_timeouts_ring_an_alarm(streamed: dict[str, Any]) -> None:
    for key in ("LeomaValidationFailedAlarm", "LeomaValidationTimedOutAlarm"):
        properties = streamed[key]["Properties"]
        assert properties["Dimensions"] == [{"Name": "StateMachineArn", "Value": {"Ref": "LeomaValidation"}}]


def test_a_stream_splits_a_failing_batch_and_sets_a_hopeless_record_aside(streamed: dict[str, Any]) -> None:
    properties = streamed["LeomaStream"]["Properties"]
    assert properties["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert properties["BisectBatchOnFunctionError"] is True
    assert properties["MaximumRecordAgeInSeconds"] == 6 * 3600
    assert properties["MaximumRetryAttempts"] == 8
    assert properties["DestinationConfig"]["OnFailure"]["Destination"]["Fn::Sub"].endswith("leoma-dead")


def test_a_queue_is_encrypted_named_for_its_stage_and_has_a_place_for_hopeless_messages(
    streamed: dict[str, Any],
) -> None:
    properties = streamed["LeomaUploads"]["Properties"]
    assert properties["QueueName"] == "subnet-functions-dev-leoma-uploads"
    assert properties["SqsManagedSseEnabled"] is True
    assert properties["VisibilityTimeout"] >= max(task.timeout for task in tasks.declared() if not task.image)
    assert properties["RedrivePolicy"]["maxReceiveCount"] == 8
    assert properties["RedrivePolicy"]["deadLetterTargetArn"]["Fn::Sub"].endswith("leoma-dead")
    assert streamed["LeomaUploaded"]["Properties"]["FunctionResponseTypes"] == ["ReportBatchItemFailures"]


def test_keys_of_indexes_are_strings_unless_declared(streamed: dict[str, Any]) -> None:
    attributes = streamed["LeomaTable"]["Properties"]["AttributeDefinitions"]
    kinds = {attribute["AttributeName"]: attribute["AttributeType"] for attribute in attributes}
    assert kinds == {"pk": "S", "sk": "S", "recent_pk": "S", "recent_sk": "N"}


def test_indexes_and_streams_are_part_of_what_a_system_may_read(streamed: dict[str, Any]) -> None:
    said = str(streamed["LeomaAccess"])
    assert "table/subnet-functions-dev-leoma/index/recent" in said
    assert "dynamodb:GetRecords" in said


def test_a_task_may_have_more_than_its_system(streamed: dict[str, Any]) -> None:
    assert "ses:SendEmail" in str(streamed["LeomaTickRole"])
    assert "ses:SendEmail" not in str(streamed["ApiRole"])


def test_an_event_source_waits_for_its_function(write: Callable[[str], None]) -> None:
    write(STREAMED)
    without = template.build("dev", variables={}, supplies=Supplies(functions=set()))["Resources"]
    assert "LeomaStream" not in without
    with_it = template.build("dev", variables={}, supplies=Supplies(functions={"leoma-tick"}))["Resources"]
    assert with_it["LeomaStream"]["Properties"]["FunctionName"]["Fn::Sub"].endswith("leoma-tick")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Resources: {PoolThing: {Type: AWS::SNS::Topic}}", "must start with Leoma"),
        ("Resources: {}\nOutputs: {}", "unknown sections"),
    ],
)
def test_a_fragment_keeps_to_its_system_and_sections(write: Callable[[str], None], text: str, reason: str) -> None:
    write(text)
    with pytest.raises(ValueError, match=reason):
        fragments.load("leoma")

"""The embedded cloud differs from its release where AWS does, and keeps what it was given."""

from __future__ import annotations

import base64
import functools
import hashlib
import io
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from botocore.config import Config
from botocore.session import get_session

from local import bootstrap, emulator_patches
from local.cloud import CREDENTIALS, PYTHON
from local.settings import ROOT
from tests.harness.laptop import eventually

SECONDS_TO_WAIT = 30
SESSION = get_session()
SIGNED = "AWS4-HMAC-SHA256 Credential=test/20270101/us-east-1/dynamodb/aws4_request, SignedHeaders=host, Signature=0"
ROLE = "arn:aws:iam::000000000000:role/test"
CODE = """
import sys
import time

class Overheated(Exception):
    pass

def handler(event, context):
    if event == "sleep":
        time.sleep(600)
    if event == "boom":
        raise Overheated("too hot")
    if isinstance(event, dict) and "Records" in event:
        import boto3
        keys = [record["dynamodb"]["Keys"]["pk"] for record in event["Records"]]
        for key in keys:
            boto3.client("dynamodb").put_item(TableName="seen", Item={"pk": key})
    return sys.executable
"""


class Emulator:
    """The child process as the server starts it."""

    def __init__(self, folder: Path) -> None:
        bootstrap.ensure(bootstrap.CLOUD)
        self.folder = folder
        self.process = subprocess.Popen(
            [PYTHON, "-s", "-m", "local.emulator", folder, "0", sys.executable],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            env={"PATH": os.environ["PATH"]},
            cwd=ROOT,
        )
        assert self.process.stdout is not None
        self.client = functools.cache(self._client)
        self.endpoint = f"http://127.0.0.1:{int(self.process.stdout.readline())}"

    def _client(self, service: str) -> Any:
        return SESSION.create_client(
            service,
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
            config=Config(s3={"addressing_style": "path"}) if service == "s3" else None,
        )

    def invoke(self, event: Any) -> Any:
        answer = self.client("lambda").invoke(FunctionName="probe", Payload=json.dumps(event).encode())
        return json.loads(answer["Payload"].read())

    def put_up_function(self) -> None:
        package = io.BytesIO()
        with zipfile.ZipFile(package, "w") as archive:
            archive.writestr("probe.py", CODE)
        self.client("lambda").create_function(
            FunctionName="probe",
            Runtime="python3.11",
            Role=ROLE,
            Handler="probe.handler",
            Code={"ZipFile": package.getvalue()},
        )

    def stop(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with self.process.stdin, self.process.stdout:
            self.process.stdin.close()
            self.process.wait(SECONDS_TO_WAIT)


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    running = Emulator(tmp_path_factory.mktemp("emulator"))
    running.put_up_function()
    yield running
    running.stop()


def test_functions_run_in_the_project_s_interpreter(emulator: Emulator) -> None:
    assert emulator.invoke({}) == sys.executable


def test_a_failed_function_tells_the_class_of_its_exception(emulator: Emulator) -> None:
    assert emulator.invoke("boom") == {"errorMessage": "too hot", "errorType": "Overheated"}
    assert emulator.invoke({}) == sys.executable


def test_a_state_machine_catches_an_exception_by_its_class(emulator: Emulator) -> None:
    states = emulator.client("stepfunctions")
    task = {
        "Type": "Task",
        "Resource": "arn:aws:states:::lambda:invoke",
        "Parameters": {"FunctionName": "probe", "Payload": "boom"},
        "Catch": [{"ErrorEquals": ["Overheated"], "Next": "Cooled"}],
        "End": True,
    }
    definition = {"StartAt": "Run", "States": {"Run": task, "Cooled": {"Type": "Succeed"}}}
    machine = states.create_state_machine(name="probe", roleArn=ROLE, definition=json.dumps(definition))
    execution = states.start_execution(stateMachineArn=machine["stateMachineArn"])["executionArn"]

    def status() -> str:
        return str(states.describe_execution(executionArn=execution)["status"])

    eventually(lambda: status() != "RUNNING")
    assert status() == "SUCCEEDED"


@pytest.mark.parametrize("size", [1000, 3 << 20])
def test_a_ranged_read_gets_its_range(emulator: Emulator, size: int) -> None:
    content = os.urandom(size)
    objects = emulator.client("s3")
    objects.create_bucket(Bucket="probe")
    objects.put_object(Bucket="probe", Key="a/b", Body=content)
    reply = objects.get_object(Bucket="probe", Key="a/b", Range=f"bytes={size - 100}-{size - 1}")
    assert reply["Body"].read() == content[-100:]
    assert reply["ContentRange"] == f"bytes {size - 100}-{size - 1}/{size}"
    assert objects.get_object(Bucket="probe", Key="a/b")["Body"].read() == content


def test_a_part_is_copied_out_of_a_large_object(emulator: Emulator) -> None:
    s3, raw = emulator.client("s3"), os.urandom(6 << 20)
    s3.create_bucket(Bucket="copies")
    s3.put_object(Bucket="copies", Key="whole", Body=raw)
    upload = {"Bucket": "copies", "Key": "part"}
    upload |= {"UploadId": s3.create_multipart_upload(**upload)["UploadId"]}
    source = {"CopySource": "copies/whole", "CopySourceRange": f"bytes=1000-{(5 << 20) + 999}"}
    etag = s3.upload_part_copy(**upload, PartNumber=1, **source)["CopyPartResult"]["ETag"]
    s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": etag}]})

    assert s3.get_object(Bucket="copies", Key="part")["Body"].read() == raw[1000 : (5 << 20) + 1000]


def test_a_copy_tells_the_checksum_that_was_asked_for(emulator: Emulator) -> None:
    s3, raw = emulator.client("s3"), os.urandom(2 << 20)
    s3.create_bucket(Bucket="checked")
    s3.put_object(Bucket="checked", Key="a", Body=raw)

    asked = {"Bucket": "checked", "Key": "a", "CopySource": "checked/a", "MetadataDirective": "REPLACE"}
    told = s3.copy_object(**asked, ChecksumAlgorithm="SHA256")["CopyObjectResult"]

    assert base64.b64decode(told["ChecksumSHA256"]) == hashlib.sha256(raw).digest()
    assert told["ChecksumType"] == "FULL_OBJECT"
    assert "ChecksumSHA256" not in s3.copy_object(**asked)["CopyObjectResult"]


def test_an_upload_in_parts_tells_the_checksum_of_the_whole(emulator: Emulator) -> None:
    s3, start = emulator.client("s3"), b"\0" * (5 << 20)
    s3.create_bucket(Bucket="wholes")
    s3.put_object(Bucket="wholes", Key="start", Body=start)
    wanted = {"ChecksumAlgorithm": "CRC64NVME", "ChecksumType": "FULL_OBJECT"}
    upload = {"Bucket": "wholes", "Key": "a"}
    upload |= {"UploadId": s3.create_multipart_upload(**upload, **wanted)["UploadId"]}
    copied = s3.upload_part_copy(**upload, PartNumber=1, CopySource="wholes/start")["CopyPartResult"]["ETag"]
    sent = s3.upload_part(**upload, PartNumber=2, Body=b"123456789")["ETag"]
    parts = [{"PartNumber": 1, "ETag": copied}, {"PartNumber": 2, "ETag": sent}]
    s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts}, ChecksumType="FULL_OBJECT")

    told = s3.head_object(Bucket="wholes", Key="a", ChecksumMode="ENABLED")
    assert (told["ChecksumCRC64NVME"], told["ChecksumType"]) == ("2Cx3jK5cd8E=", "FULL_OBJECT")


def test_expressions_mean_the_same_when_they_come_again(emulator: Emulator) -> None:
    tables = emulator.client("dynamodb")
    tables.create_table(
        TableName="probe",
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in ("pk", "sk")],
        BillingMode="PAY_PER_REQUEST",
    )
    for number in range(5):
        tables.put_item(TableName="probe", Item={"pk": {"S": "a"}, "sk": {"S": str(number)}, "n": {"N": str(number)}})
    for low in (0, 3, 0, 4):
        found = tables.query(
            TableName="probe",
            KeyConditionExpression="pk = :pk AND sk >= :low",
            FilterExpression="n < :high",
            ExpressionAttributeValues={":pk": {"S": "a"}, ":low": {"S": str(low)}, ":high": {"N": "4"}},
        )
        assert [item["sk"]["S"] for item in found["Items"]] == [str(number) for number in range(low, 4)]


@pytest.mark.parametrize(
    ("operation", "asked", "status"),
    [
        ("PutItem", {"TableName": "road", "Item": {"pk": {"S": "a"}, "n": {"N": "1"}, "raw": {"B": "AAE="}}}, 200),
        ("GetItem", {"TableName": "road", "Key": {"pk": {"S": "a"}}, "ConsistentRead": True}, 200),
        ("PutItem", {"TableName": "road", "Item": {"pk": {"S": "a"}}, "ConditionExpression": "attribute_not_exists(pk)",
                     "ReturnValuesOnConditionCheckFailure": "ALL_OLD"}, 400),
        ("TransactWriteItems", {"TransactItems": [{"Delete": {"TableName": "road", "Key": {"pk": {"S": "a"}},
                                "ConditionExpression": "attribute_not_exists(pk)"}}]}, 400),
        ("GetItem", {"TableName": "nowhere", "Key": {"pk": {"S": "a"}}}, 400),
        ("GetItem", {"TableName": "road", "Key": {"pk": {"S": ""}}}, 400),
    ],
)  # fmt: skip
def test_the_short_road_answers_what_the_whole_way_does(
    emulator: Emulator, operation: str, asked: dict[str, Any], status: int
) -> None:
    tables = emulator.client("dynamodb")
    if "road" not in tables.list_tables()["TableNames"]:
        key = {"KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}], "BillingMode": "PAY_PER_REQUEST"}
        tables.create_table(
            TableName="road", AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}], **key
        )

    def answer(target: str) -> tuple[int, bytes, str | None, str | None]:
        """A target with a query goes the whole way."""
        headers = {"X-Amz-Target": f"DynamoDB_20120810.{operation}", "Authorization": SIGNED}
        with closing(HTTPConnection(emulator.endpoint.removeprefix("http://"))) as connection:
            connection.request("POST", target, json.dumps(asked), headers)
            reply = connection.getresponse()
            ids = [reply.getheader(name) for name in ("x-amz-crc32", "content-type")]
            assert (reply.getheader("x-amz-id-2") is None) == (target == "/")
            return reply.status, reply.read(), ids[0], ids[1]

    assert answer("/") == answer("/?whole")
    assert answer("/")[0] == status


def test_only_recent_logs_are_kept(emulator: Emulator) -> None:
    for _ in range(emulator_patches.KEPT_LOG_STREAMS + 10):
        emulator.invoke({})
    logs = emulator.client("logs").get_paginator("describe_log_streams")
    streams = [stream for page in logs.paginate(logGroupName="/aws/lambda/probe") for stream in page["logStreams"]]
    assert len(streams) == emulator_patches.KEPT_LOG_STREAMS


def test_a_stream_reaches_its_function_after_a_restart_too(tmp_path: Path) -> None:
    def watched(running: Emulator, key: str) -> None:
        tables = running.client("dynamodb")
        tables.put_item(TableName="watched", Item={"pk": {"S": key}})
        eventually(lambda: "Item" in tables.get_item(TableName="seen", Key={"pk": {"S": key}}))

    first = Emulator(tmp_path)
    first.put_up_function()
    for name in ("watched", "seen"):
        first.client("dynamodb").create_table(
            TableName=name,
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
            StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_IMAGE"},
        )
    stream = first.client("dynamodb").describe_table(TableName="watched")["Table"]["LatestStreamArn"]
    first.client("lambda").create_event_source_mapping(
        FunctionName="probe", EventSourceArn=stream, StartingPosition="TRIM_HORIZON"
    )
    watched(first, "before")
    first.stop()
    second = Emulator(tmp_path)
    assert second.client("lambda").list_functions()["Functions"] == []
    second.put_up_function()
    watched(second, "after")
    second.stop()


def test_a_function_that_runs_does_not_hold_up_the_end(tmp_path: Path) -> None:
    running = Emulator(tmp_path)
    running.put_up_function()
    running.client("lambda").update_function_configuration(FunctionName="probe", Timeout=900)
    running.client("lambda").invoke(FunctionName="probe", Payload=b'"sleep"', InvocationType="Event")
    eventually(lambda: any((tmp_path / "tmp").glob("ministack-lambda-probe-*/code/probe.py")))
    running.stop()  # waits half a minute at most, the function ten

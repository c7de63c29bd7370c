"""What every table and bucket has, whatever its fragment says: nothing is lost, nothing is open."""

from __future__ import annotations

from typing import Any

from infra import names

TABLE = "AWS::DynamoDB::Table"
BUCKET = "AWS::S3::Bucket"
NOT_PUBLIC = {
    "BlockPublicAcls": True,
    "BlockPublicPolicy": True,
    "IgnorePublicAcls": True,
    "RestrictPublicBuckets": True,
}
_KEPT = {"DeletionPolicy": "Retain", "UpdateReplacePolicy": "Retain"}
_UPLOAD_RULE = {
    "AllowedMethods": ["GET", "HEAD", "PUT", "POST"],
    "AllowedOrigins": ["*"],
    "AllowedHeaders": ["*"],
    "ExposedHeaders": ["ETag", "x-amz-checksum-sha256"],
    "MaxAge": 3600,
}


def table(resource: dict[str, Any], stage: str) -> dict[str, Any]:
    """Keys `pk` and `sk`, paid per request, restorable to any second of 35 days, expiring by `ttl`."""
    given = resource.get("Properties", {})
    indexes = [{"Projection": {"ProjectionType": "ALL"}, **index} for index in given.get("GlobalSecondaryIndexes", [])]
    properties = {
        "BillingMode": "PAY_PER_REQUEST",
        "KeySchema": [
            {"AttributeName": "pk", "KeyType": "HASH"},
            {"AttributeName": "sk", "KeyType": "RANGE"},
        ],
        "TimeToLiveSpecification": {"AttributeName": "ttl", "Enabled": True},
        "PointInTimeRecoverySpecification": {"PointInTimeRecoveryEnabled": True},
        "SSESpecification": {"SSEEnabled": True},
        "DeletionProtectionEnabled": True,
        **given,
        "TableName": names.physical(stage, given["TableName"]),
    }
    if indexes:
        properties["GlobalSecondaryIndexes"] = indexes
    properties["AttributeDefinitions"] = _attributes(properties, given.get("AttributeDefinitions", []))
    return {"Type": TABLE, **_KEPT, "Properties": properties}


def _attributes(properties: dict[str, Any], declared: list[dict[str, str]]) -> list[dict[str, str]]:
    """Every key attribute is a string unless the fragment says otherwise."""
    schemas = [
        properties["KeySchema"],
        *(index["KeySchema"] for index in properties.get("GlobalSecondaryIndexes", [])),
    ]
    kinds = {key["AttributeName"]: "S" for schema in schemas for key in schema}
    kinds |= {attribute["AttributeName"]: attribute["AttributeType"] for attribute in declared}
    return [{"AttributeName": name, "AttributeType": kind} for name, kind in sorted(kinds.items())]


def bucket(key: str, resource: dict[str, Any], name: Any) -> dict[str, dict[str, Any]]:
    """The bucket, closed to the public and encrypted, and the policy that refuses plain http."""
    given = resource.get("Properties", {})
    rules = [
        {
            "Id": "abandoned-uploads",
            "Status": "Enabled",
            "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 2},
        },
        *({"Status": "Enabled", **rule} for rule in given.get("LifecycleConfiguration", {}).get("Rules", [])),
    ]
    properties = {
        "PublicAccessBlockConfiguration": NOT_PUBLIC,
        "OwnershipControls": {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]},
        "BucketEncryption": {
            "ServerSideEncryptionConfiguration": [
                {"ServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}},
            ]
        },
        "CorsConfiguration": {"CorsRules": [_UPLOAD_RULE]},
        **given,
        "BucketName": name,
        "LifecycleConfiguration": {"Rules": rules},
    }
    return {
        key: {"Type": BUCKET, **_KEPT, "Properties": properties},
        f"{key}Policy": _tls_only(key),
    }


def _tls_only(bucket_key: str) -> dict[str, Any]:
    arn = {"Fn::GetAtt": [bucket_key, "Arn"]}
    statement = {
        "Sid": "TlsOnly",
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:*",
        "Resource": [arn, {"Fn::Join": ["", [arn, "/*"]]}],
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }
    return {
        "Type": "AWS::S3::BucketPolicy",
        "Properties": {
            "Bucket": {"Ref": bucket_key},
            "PolicyDocument": {"Version": "2012-10-17", "Statement": [statement]},
        },
    }

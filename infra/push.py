"""Build a container image, push it to the stage's repository and write its digest into `.chalice/config.json`.

`python -m infra.push --stage dev` (`make image STAGE=dev`), with docker on the path; then deploy, and the functions
that run in it are there. The repository is part of the stack, so a stage is deployed once before its first image.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from infra import names, stages, supply
from infra.cloud import client

Run = Callable[[list[str], bytes], None]


class DockerFailed(RuntimeError):
    """What docker was asked for and would not do."""


def push(stage: str, image: str, run: Run, ecr: Any) -> str:
    """Answers the image's URI, by digest: a tag could be moved."""
    name = names.physical(stage, image)
    repository = ecr.describe_repositories(repositoryNames=[name])["repositories"][0]["repositoryUri"]
    tag = content_tag(image)
    uri = f"{repository}:{tag}"
    user, _, password = _login(ecr).partition(":")
    run(["docker", "login", "--username", user, "--password-stdin", repository.partition("/")[0]], password.encode())
    recipe = f"layers/{image}/Dockerfile"
    run(["docker", "build", "--platform", "linux/amd64", "--provenance=false", "-f", recipe, "-t", uri, "."], b"")
    run(["docker", "push", uri], b"")
    found = ecr.describe_images(repositoryName=name, imageIds=[{"imageTag": tag}])["imageDetails"][0]
    return f"{repository}@{found['imageDigest']}"


def remember(config: dict[str, Any], stage: str, image: str, uri: str) -> dict[str, Any]:
    settings = config["stages"][stage]
    images = {**settings.get("images", {}), image: uri}
    return {**config, "stages": {**config["stages"], stage: {**settings, "images": images}}}


def content_tag(image: str) -> str:
    """The same sources have the same tag; the repository refuses to move one."""
    digest = hashlib.sha256()
    files = [supply.ROOT / "requirements.txt", *_files("chalicelib"), *_files(f"layers/{image}")]
    for file in files:
        digest.update(str(file.relative_to(supply.ROOT)).encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:20]


def _files(folder: str) -> list[Path]:
    found = (supply.ROOT / folder).rglob("*")
    return sorted(path for path in found if path.is_file() and "__pycache__" not in path.parts)


def _login(ecr: Any) -> str:
    token = ecr.get_authorization_token()["authorizationData"][0]["authorizationToken"]
    return base64.b64decode(token).decode()


def _run(command: list[str], given: bytes) -> None:
    try:
        done = subprocess.run(command, cwd=supply.ROOT, input=given, check=False)
    except FileNotFoundError:
        raise DockerFailed("docker is not installed here") from None
    if done.returncode:
        raise DockerFailed(f"{' '.join(command[:2])} failed")


def main() -> None:
    parser = argparse.ArgumentParser(prog="infra.push", description=__doc__)
    parser.add_argument("--stage", required=True)
    parser.add_argument("--image", default="evaluator")
    given = parser.parse_args()
    try:
        uri = push(given.stage, given.image, _run, client("ecr"))
    except DockerFailed as failure:
        sys.exit(str(failure))
    stages.write(remember(stages.read(), given.stage, given.image, uri))
    print(uri)


if __name__ == "__main__":
    main()

"""The embedded cloud, as `local/emulator.py` runs it, with what `chalice deploy` needs of a gateway.

A script of the cloud's own environment: `emulator.py FOLDER PYTHON`, where PYTHON runs the functions.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from local import emulator, emulator_patches


def import_apis() -> None:
    """Chalice creates and replaces APIs by importing a description; the emulator has the importer, but no way to it."""
    from ministack.services import apigateway_v1 as apigateway  # noqa: PLC0415 - configured before it is imported

    def make(handle: Callable[..., Any]) -> Callable[..., Any]:
        async def handling(method: str, path: str, headers: Any, body: bytes, query: dict[str, Any]) -> Any:
            asked = (method, query.get("mode"))
            if asked[0] == "POST" and path.strip("/") == "restapis" and asked[1] in ("import", ["import"]):
                api = apigateway._import_rest_api(json.loads(body), described(json.loads(body)))
                return apigateway._get_rest_api(api)
            if asked[0] == "PUT" and asked[1] in ("overwrite", ["overwrite"]):
                return overwrite(path.strip("/").split("/")[1], json.loads(body))
            return await handle(method, path, headers, body, query)

        return handling

    def described(document: dict[str, Any]) -> dict[str, Any]:
        return {"binaryMediaTypes": document.get("x-amazon-apigateway-binary-media-types", [])}

    def overwrite(api: str, document: dict[str, Any]) -> Any:
        """As on AWS, what the document does not say is gone: the gateway responses above all."""
        resources = apigateway._resources[api]
        for key in [key for key, resource in resources.items() if resource["path"] != "/"]:
            del resources[key]
        apigateway._gateway_responses[api] = {}
        for path, item in document["paths"].items():
            apigateway._import_path_item(api, path, item, {}, None)
        return apigateway._get_rest_api(api)

    emulator_patches.replace(apigateway, "handle_request", make)


def settle_functions_at_once() -> None:
    """A changed function is ready half a second later, which Chalice looks for five seconds apart, one by one."""
    from ministack.services import lambda_svc  # noqa: PLC0415

    ready = {"State": "Active", "StateReason": "", "StateReasonCode": "", "LastUpdateStatus": "Successful"}

    def make(_schedule: Callable[..., None]) -> Callable[..., None]:
        return lambda name, _delay: lambda_svc._functions[name]["config"].update(ready)

    emulator_patches.replace(lambda_svc, "_schedule_state_transition", make)


if __name__ == "__main__":
    patch = emulator_patches.patch

    def patch_more(python: str) -> None:
        patch(python)
        import_apis()
        settle_functions_at_once()

    emulator_patches.patch = patch_more
    sys.exit(emulator.main(Path(sys.argv[1]), 0, sys.argv[2]))

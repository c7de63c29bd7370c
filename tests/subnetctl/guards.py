"""The guards of the command line and of the operator's scripts: take one away, and the named tests must fail."""

from __future__ import annotations

from tests.harness.mutation import Guard

GUARDS = [
    Guard("agreed to", "infra/restore.py", "if not agree(", "if False and not agree(", "tests/infra/test_restore.py"),
    Guard("items that came later go", "infra/restore.py", "not in known)", "in ())", "tests/infra/test_restore.py"),
    Guard("equal items stay", "infra/restore.py", "!= item)", "is not item)", "tests/infra/test_restore.py"),
    Guard(
        "no page for an answer",
        "subnetctl/api.py",
        "if self.ok and not",
        "if False and not",
        "tests/subnetctl/test_clients.py",
    ),
    Guard(
        "an address that is none",
        "subnetctl/api.py",
        "except (OSError, http.client.HTTPException, ValueError) as error:",
        "except OSError as error:",
        "tests/subnetctl/test_clients.py",
    ),
    Guard(
        "a signer is needed",
        "subnetctl/clients.py",
        "if self._signer is None:",
        "if False:",
        "tests/subnetctl/test_clients.py",
    ),
]

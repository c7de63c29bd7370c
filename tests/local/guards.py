"""What keeps the laptop's edges safe, and the tests that must miss it."""

from __future__ import annotations

from tests.harness.mutation import Guard

_GATEWAY, _SERVER = "tests/local/test_gateway.py", "tests/local/test_server.py"

GUARDS = [
    Guard(
        "a body above API Gateway's limit is refused",
        "local/gateway.py",
        "len(request.body) > MAX_BODY_BYTES",
        "len(request.body) < 0",
        _GATEWAY,
    ),
    Guard(
        "malformed paths are refused",
        "local/gateway.py",
        """or _MALFORMED.search(path)""",
        "",
        _GATEWAY,
    ),
    Guard(
        "a method that is not declared is refused",
        "local/gateway.py",
        "if request.method not in node.methods:",
        "if not node.methods:",
        _GATEWAY,
    ),
    Guard(
        "an answer above Lambda's limit is a bad gateway",
        "local/gateway.py",
        "if encoded_size(reply) > MAX_ANSWER_BYTES:",
        "if encoded_size(reply) < 0:",
        _GATEWAY,
    ),
    Guard(
        "a header cannot smuggle another one in",
        "local/gateway.py",
        r"""if any("\n" in value or "\r" in value for _, value in headers):""",
        "if not headers and several:",
        _GATEWAY,
    ),
    Guard(
        "an empty segment is no value of a variable",
        "local/gateway.py",
        "elif node.variable is not None and segment:",
        "elif node.variable is not None:",
        _GATEWAY,
    ),
    Guard(
        "waitress stops reading a body that is too large",
        "local/server.py",
        "max_request_body_size=MAX_BODY_BYTES + 1,",
        "max_request_body_size=1 << 40,",
        _SERVER,
    ),
    Guard(
        "a refused client has time to read its answer",
        "local/server.py",
        "self.channel.bytes_to_drain = DRAINED_BYTES",
        "self.channel.bytes_to_drain = 0",
        _SERVER,
    ),
    Guard(
        "a refused client is not told to go on",
        "local/server.py",
        "self.expect_continue = False",
        "pass",
        _SERVER,
    ),
    Guard(
        "a length of thousands of digits is malformed",
        "local/server.py",
        "except ValueError:",
        "except ZeroDivisionError:",
        _SERVER,
    ),
    Guard(
        "a header block above API Gateway's limit is refused",
        "local/server.py",
        "max_request_header_size=MAX_HEADER_BYTES,",
        "max_request_header_size=1 << 20,",
        _SERVER,
    ),
    Guard(
        "a thread stays for what follows closely",
        "local/server.py",
        "if poll.poll(MILLISECONDS_OF_ATTENTION) else",
        "if poll.poll(0) else",
        _SERVER,
    ),
    Guard(
        "a thread does not wait for a client to read",
        "local/server.py",
        "while not self.total_outbufs_len and (",
        "while (",
        _SERVER,
    ),
    Guard(
        "requests that waited for their client to read are served then",
        "local/server.py",
        "            self.server.add_task(self)\n",
        "            pass\n",
        _SERVER,
    ),
    Guard(
        "installations take turns",
        "local/bootstrap.py",
        "            fcntl.flock(lock, fcntl.LOCK_EX)\n",
        "",
        "tests/local/test_bootstrap.py",
    ),
    Guard(
        "a half-made environment is not taken for a whole one",
        "local/bootstrap.py",
        "    environment.stamp.unlink(missing_ok=True)\n",
        "",
        "tests/local/test_bootstrap.py",
    ),
    Guard(
        "a state folder has one server",
        "local/folder.py",
        "fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)",
        "fcntl.flock(self._lock, fcntl.LOCK_SH | fcntl.LOCK_NB)",
        "tests/local/test_folder.py",
    ),
    Guard(
        "a last save is let",
        "local/cloud.py",
        "            if self._is_saving():\n",
        "            if False:\n",
        "tests/local/test_cloud.py",
    ),
    Guard(
        "a cloud that hangs is ended",
        "local/cloud.py",
        "            if self._is_saving():\n",
        "            if True:\n",
        "tests/local/test_cloud.py",
    ),
    Guard(
        "a state folder of a newer version is left alone",
        "local/folder.py",
        "            self._refuse_newer()\n",
        "",
        "tests/local/test_folder.py",
    ),
    Guard(
        "another emulator than the patched one does not start",
        "local/emulator_patches.py",
        "if found != VERSION:",
        "if not found:",
        "tests/local/test_emulator_patches.py",
    ),
    Guard(
        "production does not fetch from private addresses",
        "local/settings.py",
        'if kernel.environment == "production" and kernel.fetch_allow_private:',
        'if kernel.environment == "nowhere" and kernel.fetch_allow_private:',
        "tests/local/test_settings.py",
    ),
]

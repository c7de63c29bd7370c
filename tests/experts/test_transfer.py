"""A download that breaks, and a URL that ends: the command goes on where it was, or starts no second version."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from chalicelib.experts import slices
from subnetctl import clients, experts_transfer
from tests.experts import models

PAYLOAD = bytes(range(256)) * 1000
HASH = models.digest(PAYLOAD)
WIRE = slices.envelope({"content_hash": HASH}, 4096) + PAYLOAD


class Storage(http.server.BaseHTTPRequestHandler):
    """Refuses the URL that has ended, and breaks off in the middle of its first answer."""

    asked: list[str]

    def do_GET(self) -> None:
        if self.path == "/ended":
            self.send_error(403)
            return
        self.asked.append(self.headers["Range"])
        first, last = (int(text) for text in self.headers["Range"].removeprefix("bytes=").split("-"))
        self.send_response(206)
        self.send_header("Content-Length", str(last + 1 - first))
        self.end_headers()
        self.wfile.write(WIRE[first : first + 1000 if len(self.asked) == 1 else last + 1])

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
        return


@pytest.fixture
def storage() -> Iterator[tuple[str, list[str]]]:
    asked: list[str] = []
    handler = type("Asked", (Storage,), {"asked": asked})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()


def told(origin: str, path: str) -> dict[str, Any]:
    return {
        "expert_group": 0, "block_number": 1, "model_version": "v", "content_hash": HASH, "etag": "e1",
        "wire_bytes": len(WIRE), "url": f"{origin}/{path}",
    }  # fmt: skip


def test_a_broken_piece_goes_on_with_a_fresh_url_of_the_same_version(
    storage: tuple[str, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    origin, asked = storage
    etags: list[str] = []

    def grant(*_: Any, etag: str = "") -> dict[str, Any]:
        etags.append(etag)
        return told(origin, "fresh" if etag else "ended")

    experts = clients.Experts(origin, "token")
    monkeypatch.setattr(experts, "slice", grant)
    experts_transfer.download(experts, 0, "5F", "experts", tmp_path / "out", keep_envelope=False)

    assert (tmp_path / "out").read_bytes() == PAYLOAD
    assert etags == ["", "e1"]
    assert asked == [f"bytes=0-{len(WIRE) - 1}", f"bytes=1000-{len(WIRE) - 1}"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("start", [bytes(4096), WIRE[:4096]])
@pytest.mark.parametrize("journal", [b"0\n", b"0\n\xff\n"])
def test_what_a_crash_left_damaged_is_thrown_away_and_fetched_anew(
    storage: tuple[str, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: bytes, journal: bytes
) -> None:
    origin, _ = storage
    experts = clients.Experts(origin, "token")
    monkeypatch.setattr(experts, "slice", lambda *_, **__: told(origin, "fresh"))
    name = f".out.{HASH[-12:]}"
    (tmp_path / f"{name}.part").write_bytes(start.ljust(len(WIRE), b"\0"))
    (tmp_path / f"{name}.done").write_bytes(journal)

    with pytest.raises(typer.Exit):
        experts_transfer.download(experts, 0, "5F", "experts", tmp_path / "out", keep_envelope=False)
    assert not (tmp_path / "out").exists()
    experts_transfer.download(experts, 0, "5F", "experts", tmp_path / "out", keep_envelope=False)
    assert (tmp_path / "out").read_bytes() == PAYLOAD
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_one_target_is_written_by_one_download_at_a_time(
    storage: tuple[str, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    origin, asked = storage
    experts = clients.Experts(origin, "token")
    monkeypatch.setattr(experts, "slice", lambda *_, **__: told(origin, "fresh"))
    begun: list[None] = []
    complete = experts_transfer._complete

    def meanwhile(*words: Any) -> None:
        begun.append(None)
        if len(begun) == 1:
            with pytest.raises(typer.Exit):
                experts_transfer.download(experts, 0, "5F", "experts", tmp_path / "out", keep_envelope=True)
        complete(*words)

    monkeypatch.setattr(experts_transfer, "_complete", meanwhile)
    experts_transfer.download(experts, 0, "5F", "experts", tmp_path / "out", keep_envelope=False)

    assert (len(begun), len(asked)) == (1, 2)
    assert "another download is writing" in capfd.readouterr().err
    assert (tmp_path / "out").read_bytes() == PAYLOAD
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_part_file_that_another_download_has_just_named_is_not_written_to(tmp_path: Path) -> None:
    part = tmp_path / "part"
    with part.open("wb") as stream:
        part.replace(tmp_path / "out")
        assert not experts_transfer._has_its_name(stream, part)
        part.touch()
        assert not experts_transfer._has_its_name(stream, part)


def test_a_full_disk_is_told_as_what_it_is() -> None:
    with (
        Path("/dev/full").open("wb", buffering=0) as disk,
        pytest.raises(experts_transfer.BrokenOff, match="the file cannot be written: No space left on device"),
    ):
        experts_transfer._keep(disk, b"x")


@pytest.mark.parametrize("out", ["", "no/such/out"])
def test_a_target_that_is_no_file_is_refused_before_anything_is_fetched(tmp_path: Path, out: str) -> None:
    with pytest.raises(typer.Exit):
        experts_transfer.download(clients.Experts("x", "t"), 0, "5F", "experts", tmp_path / out, keep_envelope=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "lie",
    [{"wire_bytes": -5}, {"wire_bytes": "x"}, {"wire_bytes": 10**30}, {"content_hash": "sha256:../../../../etc/x"},
     {"content_hash": 5}, {"url": None}, {"etag": None}, {"model_version": "\x1b[2J"}, {"block_number": "1"}, []],
)  # fmt: skip
def test_a_server_that_describes_no_slice_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lie: Any) -> None:
    experts = clients.Experts("x", "t")
    monkeypatch.setattr(experts, "slice", lambda *_: lie and told("http://127.0.0.1:1", "s") | lie)

    with pytest.raises(typer.Exit):
        experts_transfer.download(experts, 0, "5F", "experts", tmp_path / "out", keep_envelope=False)
    assert list(tmp_path.iterdir()) == []

"""Where a checkpoint may come from: syntax at submission, addresses at fetching."""

from __future__ import annotations

import pytest

from chalicelib.experts import addresses
from chalicelib.experts.addresses import BadUrl

HOST = "https://miner.example.com"
GOOD = [
    f"{HOST}/a.pt", f"{HOST}/a/b.safetensors", f"{HOST}:443/a.pt", f"{HOST}/a.pt?token=x", f"{HOST}/A.PT",
    "https://xn--mnchen-3ya.example/a.pt", "https://a-b.c1.example.co/a.pt", f"{HOST}/%20.pt",
]  # fmt: skip
BAD = [
    "http://miner.example.com/a.pt", "ftp://miner.example.com/a.pt", "file:///etc/a.pt", "data:,a.pt",
    "s3://bucket/a.pt",
    "HTTPS://miner.example.com/a.pt", "//miner.example.com/a.pt", "https:/miner.example.com/a.pt", "a.pt", "",
    "https://1.2.3.4/a.pt", "https://8.8.8.8/a.pt", "https://0x7f.0.0.1/a.pt", "https://2130706433/a.pt",
    "https://0x7f000001/a.pt", "https://017700000001/a.pt", "https://127.1/a.pt", "https://a.example.0x10/a.pt",
    "https://[::1]/a.pt", "https://[::ffff:10.0.0.1]/a.pt", "https://[2606:4700::1111]/a.pt",
    "https://user@miner.example.com/a.pt", "https://user:x@miner.example.com/a.pt",
    "https://miner.example.com@evil.test/a.pt",
    f"{HOST}:22/a.pt", f"{HOST}:80/a.pt", f"{HOST}:0/a.pt", f"{HOST}:99999/a.pt", f"{HOST}:4a3/a.pt", f"{HOST}:/a.txt",
    f"{HOST}/a.pt#x", f"{HOST}/a.pt#", f"{HOST}/a.pt?x#y", f"{HOST}/a.zip", f"{HOST}/", HOST, f"{HOST}/x?a.pt",
    f"{HOST}/{'a' * 3000}.pt", f"{HOST}/a b.pt", f"{HOST}/a\n.pt", f"{HOST}/ä.pt", f"{HOST}\\@evil.example/a.pt",
    "https://localhost/a.pt", "https://a.localhost/a.pt",
    "https://printer.local/a.pt", "https://metadata.internal/a.pt",
    "https://x.amazonaws.com.internal/a.pt", "https://single/a.pt", "https://miner.example.com./a.pt",
    "https://-a.example.com/a.pt", "https://a..example.com/a.pt", "https://a_b.example.com/a.pt",
    f"https://{'a' * 64}.example.com/a.pt", f"https://{'a.' * 127}example.com/a.pt", "https://xn--a\x00.example/a.pt",
    "https://xn--99999999999.example/a.pt", "https:///a.pt", "https://:443/a.pt",
]  # fmt: skip
PUBLIC = ["8.8.8.8", "1.1.1.1", "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]
PRIVATE = [
    "0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "100.127.255.255", "127.0.0.1", "127.255.255.255", "169.254.0.1",
    "169.254.169.254", "169.254.170.2", "172.16.0.1", "172.31.255.255", "192.0.0.1", "192.0.0.170", "192.0.2.1",
    "192.88.99.1", "192.168.1.1", "198.18.0.1", "198.19.255.255", "198.51.100.1", "203.0.113.1", "224.0.0.1",
    "239.1.1.1",
    "240.0.0.1", "255.255.255.255", "::", "::1", "fc00::1",
    "fd00:ec2::254", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1",
    "2001:db8::1", "100::1", "::ffff:127.0.0.1",
    "::ffff:169.254.169.254", "::ffff:10.1.2.3", "::127.0.0.1", "::a00:1",
    "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::a00:1",
    "2002:7f00:1::", "2002:a9fe:a9fe::1", "2002:a00:1::1",
    "2001:0:7f00:1::", "2001:0:4136:e378:8000:63bf:f5ff:fffe", "not an address",
    "", "1.2.3", "0x7f000001", "2130706433",
]  # fmt: skip


@pytest.mark.parametrize("url", GOOD)
def test_a_public_https_file_is_taken(url: str) -> None:
    assert addresses.target(url).suffix in addresses.SUFFIXES


@pytest.mark.parametrize("url", BAD)
def test_everything_else_is_refused(url: str) -> None:
    with pytest.raises(BadUrl):
        addresses.target(url)


def test_knobs_open_ports_suffixes_and_close_our_own_names() -> None:
    assert addresses.target(f"{HOST}:8443/a.pt", ports=(443, 8443)).port == 8443
    assert addresses.target(f"{HOST}/a.bin", any_suffix=True).suffix == ""
    for host in ("own.example.com", "api.own.example.com"):
        with pytest.raises(BadUrl, match="ours"):
            addresses.target(f"https://{host}/a.pt", own_domains=["OWN.example.com"])


@pytest.mark.parametrize("url", ["http://127.0.0.1:8000/a.pt", "http://localhost/a.pt", "http://[::1]:9/a.pt",
                                 "https://127.0.0.1:1/a.pt"])  # fmt: skip
def test_this_host_counts_on_a_laptop_only(url: str) -> None:
    assert addresses.target(url, allow_this_host=True).private
    with pytest.raises(BadUrl):
        addresses.target(url)


@pytest.mark.parametrize(
    "url",
    ["http://10.0.0.1/a.pt", "http://127.0.0.2/a.pt", "http://169.254.169.254/a.pt", "http://miner.example.com/a.pt",
     "http://127.1/a.pt", "http://127.0.0.1/a.exe", "http://user@127.0.0.1/a.pt", "ftp://127.0.0.1/a.pt"],
)  # fmt: skip
def test_the_laptop_s_exception_is_for_this_host_alone(url: str) -> None:
    with pytest.raises(BadUrl):
        addresses.target(url, allow_this_host=True)


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_is_reached(address: str) -> None:
    assert addresses.is_public(address)


@pytest.mark.parametrize("address", PRIVATE)
def test_a_private_address_is_seen_in_every_disguise(address: str) -> None:
    assert not addresses.is_public(address)

"""Where a stranger's URL may lead: its syntax when it is submitted, its addresses when it is fetched.

A part of the rules of submission that both the API and the fetcher apply; nothing here resolves or connects.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Iterable

from chalicelib.kernel.values import frozen

LONGEST_URL = 2048
LONGEST_HOST = 253
HTTPS_PORT = 443
HTTP_PORT = 80
LARGEST_PORT = 65535
SUFFIXES = (".pt", ".safetensors")
THIS_HOST = ("127.0.0.1", "::1", "localhost")

_URL = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<authority>[^/?#]*)(?P<path>/[^?#]*)?(?P<query>\?[^#]*)?(?P<fragment>#.*)?"
)
_PRINTABLE = re.compile(r"[!-~]+")
_AUTHORITY = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]*\]|[^:@\[\]]*)(?::(?P<port>[0-9]{1,5}))?")
_LABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
_NUMBER = re.compile(r"0[xX][0-9a-fA-F]*|[0-9]+")
_PRIVATE_ENDINGS = (
    "localhost", "local", "internal", "localdomain", "lan", "home", "corp", "intranet", "private", "arpa", "test",
    "invalid", "onion",
)  # fmt: skip
_DENIED = tuple(
    ipaddress.ip_network(text)
    for text in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
        "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
        "224.0.0.0/3", "::/127", "fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8", "64:ff9b:1::/48",
        "2001:db8::/32", "100::/64",
    )
)  # fmt: skip
# IPv6 forms that carry an IPv4 address: how many bits stand behind it.
_CARRIERS = tuple(
    (ipaddress.IPv6Network(network), bits)
    for network, bits in (("::ffff:0:0/96", 0), ("::/96", 0), ("64:ff9b::/96", 0), ("2002::/16", 80))
)
_TEREDO = ipaddress.IPv6Network("2001::/32")
_V4_MASK = 0xFFFFFFFF


class BadUrl(ValueError):
    """The URL may not be fetched; the text says why."""


@frozen
class Target:
    """A URL that passed: what to resolve, what to connect to, what to ask for."""

    scheme: str
    host: str
    port: int
    path: str
    suffix: str
    private: bool


def target(
    url: str,
    *,
    ports: Collection[int] = (HTTPS_PORT,),
    any_suffix: bool = False,
    allow_this_host: bool = False,
    own_domains: Iterable[str] = (),
) -> Target:
    """The parts of a URL that a miner may hand in."""
    if len(url) > LONGEST_URL:
        raise BadUrl(f"a URL has at most {LONGEST_URL} characters")
    if not _PRINTABLE.fullmatch(url) or "\\" in url:
        raise BadUrl("a URL is printable ASCII without spaces or backslashes")
    match = _URL.fullmatch(url)
    if not match:
        raise BadUrl("this is no https URL")
    if match["fragment"] is not None:
        raise BadUrl("a URL with a fragment")
    host, port = _host_and_port(match["authority"])
    private = allow_this_host and host in THIS_HOST
    scheme = match["scheme"]
    if scheme != "https" and not (private and scheme == "http"):
        raise BadUrl("the scheme is https")
    if not private:
        _check_name(host, own_domains)
    standard = HTTPS_PORT if scheme == "https" else HTTP_PORT
    if port is not None and port not in ports and not private:
        raise BadUrl(f"port {port} is not allowed")
    path = match["path"] or "/"
    return Target(scheme, host, port or standard, path + (match["query"] or ""), _suffix(path, any_suffix), private)


def _host_and_port(authority: str) -> tuple[str, int | None]:
    if "@" in authority:
        raise BadUrl("a URL with a user name")
    match = _AUTHORITY.fullmatch(authority)
    if not match or not match["host"]:
        raise BadUrl("the URL names no host")
    port = int(match["port"]) if match["port"] else None
    if port is not None and not 0 < port <= LARGEST_PORT:
        raise BadUrl(f"there is no port {port}")
    return match["host"].strip("[]").lower(), port


def _check_name(host: str, own_domains: Iterable[str]) -> None:
    """A DNS name with a dot; no address in any spelling, no name that only means something inside a network."""
    labels = host.split(".")
    if ":" in host or _NUMBER.fullmatch(labels[-1]):
        raise BadUrl("the host is an IP address; a DNS name is needed")
    if len(host) > LONGEST_HOST or not all(_LABEL.fullmatch(label) for label in labels):
        raise BadUrl("the host is no DNS name")
    if len(labels) < 2 or labels[-1] in _PRIVATE_ENDINGS or host.endswith(".amazonaws.com.internal"):  # noqa: PLR2004
        raise BadUrl("the host is no public DNS name")
    for label in labels:
        if label.startswith("xn--"):
            _check_punycode(label)
    if any(host == domain or host.endswith(f".{domain}") for domain in map(str.lower, own_domains)):
        raise BadUrl("the host is ours")


def _check_punycode(label: str) -> None:
    try:
        label.encode("ascii").decode("idna")
    except UnicodeError:
        raise BadUrl("the host is no DNS name") from None


def _suffix(path: str, any_suffix: bool) -> str:
    for suffix in SUFFIXES:
        if path.lower().endswith(suffix):
            return suffix
    if not any_suffix:
        raise BadUrl(f"the path ends in {' or '.join(SUFFIXES)}")
    return ""


def is_public(address: str) -> bool:
    """Whether anybody on the internet could reach this address; IPv4 inside IPv6 is unwrapped and judged again."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if "%" in address or not found.is_global or any(found in network for network in _DENIED if _same(found, network)):
        return False
    if isinstance(found, ipaddress.IPv6Address):
        return all(is_public(str(inner)) for inner in _carried(found))
    return True


def is_this_host(address: str) -> bool:
    return address in {"127.0.0.1", "::1"}


def _same(address: ipaddress.IPv4Address | ipaddress.IPv6Address, network: object) -> bool:
    return getattr(network, "version", 0) == address.version


def _carried(address: ipaddress.IPv6Address) -> list[ipaddress.IPv4Address]:
    """The IPv4 addresses that a translator, tunnel or mapping would really reach."""
    number = int(address)
    found = [ipaddress.IPv4Address(number >> shift & _V4_MASK) for network, shift in _CARRIERS if address in network]
    if address in _TEREDO:
        found += [ipaddress.IPv4Address(number >> 64 & _V4_MASK), ipaddress.IPv4Address(number & _V4_MASK ^ _V4_MASK)]
    return found

"""Which addresses nobody is to reach by a host's name: this machine, the networks behind it, and what translates to them.

Source: IANA's registries of special-purpose addresses; RFC 6052, 3056, 4380 for what embeds an IPv4 address.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import TypeAlias

Address: TypeAlias = IPv4Address | IPv6Address

_INNER_V4 = tuple(
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",  # carriers' networks; some clouds serve metadata here
        "127.0.0.0/8",
        "169.254.0.0/16",  # link-local, and the clouds' metadata
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.31.196.0/24",
        "192.52.193.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "192.175.48.0/24",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/3",  # multicast, reserved, broadcast
        "168.63.129.16/32",  # a cloud's own, from within its machines
    )
)
_OUTER_V6 = IPv6Network("2000::/3")
_INNER_V6 = tuple(
    IPv6Network(network)
    for network in (
        "2001::/23",  # protocol assignments, with Teredo
        "2001:db8::/32",
        "2002::/16",  # 6to4
        "2620:4f:8000::/48",
        "3fff::/20",
    )
)
_METADATA_V4 = tuple(
    IPv4Network(network)
    for network in ("169.254.0.0/16", "100.100.100.200/32", "168.63.129.16/32", "192.0.0.192/32")
)
_METADATA_V6 = (IPv6Network("fd00:ec2::/32"), IPv6Network("fd20:ce::/32"))


def is_inner(address: Address) -> bool:
    """Whether an address is none of the open internet."""
    if isinstance(address, IPv4Address):
        return any(address in network for network in _INNER_V4)
    # what is not handed out for the internet (mapped, translated, local, link-local, multicast) is out as a whole
    return address not in _OUTER_V6 or any(address in network for network in _INNER_V6)


def is_metadata(address: Address) -> bool:
    """Whether an address serves the secrets of a cloud's machine: nobody opens that."""
    if isinstance(address, IPv4Address):
        return any(address in network for network in _METADATA_V4)
    return any(address in network for network in _METADATA_V6) or (
        is_inner(address) and any(is_metadata(inner) for inner in _embedded(address))
    )


def _embedded(address: IPv6Address) -> tuple[IPv4Address, ...]:
    """What an address may be translated to: the end of it (mapped, compatible, NAT64, link-local), 6to4, Teredo."""
    bits = int(address)
    return tuple(IPv4Address(part & 0xFFFF_FFFF) for part in (bits, bits >> 80, ~bits))

//! Which addresses are public, after the registries of special-purpose addresses (RFC 6890 and what came since).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// A range of addresses, as `10.0.0.0/8` or a single address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    base: IpAddr,
    bits: u8,
}

impl Network {
    const fn v4(a: u8, b: u8, c: u8, d: u8, bits: u8) -> Self {
        Self { base: IpAddr::V4(Ipv4Addr::new(a, b, c, d)), bits }
    }

    const fn v6(a: u16, b: u16, c: u16, bits: u8) -> Self {
        Self { base: IpAddr::V6(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0)), bits }
    }

    /// Whether the address lies in it. An IPv4 address written as IPv6 (`::ffff:10.0.0.1`) counts as what it is.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.base, address.to_canonical()) {
            (IpAddr::V4(base), IpAddr::V4(address)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.bits)).unwrap_or(0);
                (base.to_bits() ^ address.to_bits()) & mask == 0
            }
            (IpAddr::V6(base), IpAddr::V6(address)) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.bits)).unwrap_or(0);
                (base.to_bits() ^ address.to_bits()) & mask == 0
            }
            _ => false,
        }
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (base, bits) = text.split_once('/').map_or((text, None), |(base, bits)| (base, Some(bits)));
        let wrong = || format!("`{text}` is not a network: write it as \"10.0.0.0/8\" or \"fd00::/8\"");
        let base: IpAddr = base.parse().map_err(|_| wrong())?;
        let most = if base.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(most), |bits| bits.parse().map_err(|_| wrong()))?;
        if bits > most { Err(wrong()) } else { Ok(Self { base, bits }) }
    }
}

/// Several networks, written with commas between them. Empty by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks(Vec<Network>);

impl Networks {
    /// Whether one of them contains the address.
    #[must_use]
    pub fn contain(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(address))
    }
}

impl FromStr for Networks {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
            .map(str::parse)
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

/// IPv4 that is not the public Internet.
const SPECIAL_V4: [Network; 17] = [
    Network::v4(0, 0, 0, 0, 8),          // this network
    Network::v4(10, 0, 0, 0, 8),         // private
    Network::v4(100, 64, 0, 0, 10),      // carriers' own; one cloud's metadata service
    Network::v4(127, 0, 0, 0, 8),        // this machine
    Network::v4(168, 63, 129, 16, 32),   // a public address that one cloud answers from the host itself
    Network::v4(169, 254, 0, 0, 16),     // link-local; the metadata service of most clouds
    Network::v4(172, 16, 0, 0, 12),      // private
    Network::v4(192, 0, 0, 0, 24),       // protocol assignments
    Network::v4(192, 0, 2, 0, 24),       // documentation
    Network::v4(192, 88, 99, 0, 24),     // relays into IPv6, given up
    Network::v4(192, 168, 0, 0, 16),     // private
    Network::v4(198, 18, 0, 0, 15),      // benchmarks
    Network::v4(198, 51, 100, 0, 24),    // documentation
    Network::v4(203, 0, 113, 0, 24),     // documentation
    Network::v4(224, 0, 0, 0, 4),        // multicast
    Network::v4(240, 0, 0, 0, 4),        // reserved, and broadcast
    Network::v4(255, 255, 255, 255, 32), // broadcast
];

/// Where public IPv6 addresses are given out of. Everything else is special: unspecified, loopback, unique local
/// (fc00::/7), link-local (fe80::/10), site-local, multicast (ff00::/8), IPv4-compatible (::/96), discard-only …
const GLOBAL_V6: Network = Network::v6(0x2000, 0, 0, 3);

/// Within that, what is not the public Internet.
const SPECIAL_V6: [Network; 5] = [
    Network::v6(0x2001, 0, 0, 23), // protocol assignments: Teredo, benchmarks, ORCHID
    Network::v6(0x2001, 0xdb8, 0, 32), // documentation
    Network::v6(0x2002, 0, 0, 16), // 6to4, which embeds any IPv4 address
    Network::v6(0x3ffe, 0, 0, 16), // returned with the end of the 6bone
    Network::v6(0x3fff, 0, 0, 20), // documentation
];

/// Where a translator (NAT64) shows IPv4 addresses: the IPv4 address is in the last 32 bits.
const TRANSLATED: Network = Network::v6(0x64, 0xff9b, 0, 96);

/// Whether this is an address of the public Internet. An address that stands for an IPv4 address, by mapping or by a
/// translator, is what that one is.
#[must_use]
pub fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(_) => !SPECIAL_V4.iter().any(|special| special.contains(address)),
        IpAddr::V6(v6) if TRANSLATED.contains(address) => {
            let [.., a, b, c, d] = v6.octets();
            is_public(IpAddr::V4(Ipv4Addr::new(a, b, c, d)))
        }
        IpAddr::V6(_) => {
            GLOBAL_V6.contains(address) && !SPECIAL_V6.iter().any(|special| special.contains(address))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn only_public_addresses_are_public() {
        for public in [
            "1.1.1.1",
            "8.8.8.8",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "169.253.255.255",
            "169.255.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.0",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "168.63.129.15",
            "2606:4700::1111",
            "2001:4860:4860::8888",
            "2a00:1450::1",
            "2400::",
            "::ffff:8.8.8.8",
            "64:ff9b::8.8.8.8",
        ] {
            assert!(is_public(ip(public)), "{public}");
        }
        for special in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.0",
            "10.255.255.255",
            "100.64.0.1",
            "100.100.100.200",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.255",
            "168.63.129.16",
            "169.254.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.192",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.0.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.7",
            "203.0.113.9",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            // IPv6 of its own.
            "::",
            "::1",
            "::2",
            "100::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "2001:db8::1",
            "2001:2::1",
            "2001:10::1",
            "2001:20::1",
            "3ffe::1",
            "3fff::1",
            "5f00::1",
            "4000::1",
            "64:ff9b:1::8.8.8.8",
            // IPv4 in disguise: mapped, compatible, translated, 6to4, Teredo.
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::ffff:169.254.169.254",
            "::127.0.0.1",
            "::8.8.8.8",
            "64:ff9b::10.0.0.1",
            "64:ff9b::169.254.169.254",
            "2002:7f00:1::1",
            "2002:a9fe:a9fe::1",
            "2001:0:4136:e378:8000:63bf:3fff:fdd2",
        ] {
            assert!(!is_public(ip(special)), "{special}");
        }
    }

    #[test]
    fn networks_are_read_and_contain_what_they_say() {
        let networks: Networks = "10.0.0.0/8, fd00::/8,192.168.1.7".parse().expect("networks");
        for inside in ["10.9.8.7", "::ffff:10.9.8.7", "fd12::1", "192.168.1.7"] {
            assert!(networks.contain(ip(inside)), "{inside}");
        }
        for outside in ["11.0.0.1", "fe80::1", "192.168.1.8", "::a09:807"] {
            assert!(!networks.contain(ip(outside)), "{outside}");
        }
        assert!("0.0.0.0/0".parse::<Networks>().expect("all").contain(ip("8.8.8.8")));
        assert!("::/0".parse::<Networks>().expect("all").contain(ip("fe80::1")));
        assert!(!"".parse::<Networks>().expect("none").contain(ip("10.0.0.1")));
        for bad in ["10.0.0.0/33", "10.0.0/8", "fd00::/129", "10.0.0.0/x", "localhost", "10.0.0.0/8 fd00::/8"]
        {
            assert!(bad.parse::<Networks>().is_err(), "{bad}");
        }
    }
}

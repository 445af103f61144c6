//! The `ip` resource of a package file: a floating address on an interface.

use std::net::{IpAddr, Ipv4Addr};
use std::ops::Range;

use super::super::IpResource;
use super::super::problem::quoted;
use crate::package::file::{At, Keys, Report};

/// Keys of an ip resource beside those of every resource.
pub const KEYS: &[&str] = &["address", "device"];
/// Longest interface name, in bytes (the kernel's IFNAMSIZ less its NUL).
pub const DEVICE_MAX_BYTES: usize = 15;

const ADDRESS: &str = "address = \"10.0.0.100/24\"";
const DEVICE: &str = "device = \"eth0\"";

/// Reads an ip resource; none when something was reported.
pub fn read(keys: &Keys<'_>, report: &mut Report) -> Option<IpResource> {
    let address = keys.need_text("address", ADDRESS, report).and_then(|given| address(&given, report));
    let device = keys.need_text("device", DEVICE, report).and_then(|given| device(&given, report));
    let ((address, prefix), device) = (address?, device?);
    Some(IpResource { address, prefix, device })
}

/// The address alone, with its place, whatever is wrong with the rest; nothing is reported.
pub fn floating(keys: &Keys<'_>) -> Option<(Range<usize>, IpAddr)> {
    let value = keys.get("address")?;
    let (address, _) = read_address(value.get_ref().as_str()?).ok()?;
    Some((value.span(), address))
}

fn address(given: &At<&str>, report: &mut Report) -> Option<(IpAddr, u8)> {
    match read_address(given.get_ref()) {
        Ok(good) => Some(good),
        Err((what, remedy)) => {
            report.add(given.span(), what, remedy);
            None
        }
    }
}

/// An address with its prefix length, or what is wrong and what to write.
fn read_address(given: &str) -> Result<(IpAddr, u8), (String, String)> {
    let (address, prefix) = given.split_once('/').map_or((given, None), |(a, p)| (a, Some(p)));
    let ip: IpAddr = address.parse().map_err(|_| {
        (
            format!("{} is not an IP address", quoted(address)),
            format!("write {ADDRESS} or an IPv6 address; no host name"),
        )
    })?;
    let (bits, usual) = if ip.is_ipv4() { (32, 24) } else { (128, 64) };
    let like = |p: u8| format!("write \"{ip}/{p}\" with the prefix length of the network");
    let Some(prefix) = prefix else {
        return Err((format!("{} has no prefix length", quoted(given)), like(usual)));
    };
    let number: u8 = match prefix.parse() {
        // `+24` parses as a number but is no way to write one.
        Ok(number) if (1..=bits).contains(&number) && !prefix.starts_with('+') => number,
        Ok(_) | Err(_) => {
            let remedy = netmask(prefix).map_or_else(|| like(usual), like);
            return Err((format!("the prefix length must be 1 to {bits}, not {}", quoted(prefix)), remedy));
        }
    };
    match unfit(ip, number) {
        Some((what, remedy)) => Err((format!("{ip} is {what}"), remedy)),
        None => Ok((ip, number)),
    }
}

/// The prefix length of a netmask written out, `255.255.255.0`.
fn netmask(text: &str) -> Option<u8> {
    let bits = u32::from(text.parse::<Ipv4Addr>().ok()?);
    let ones = bits.leading_ones();
    (ones > 0 && bits.checked_shl(ones).unwrap_or(0) == 0).then_some(u8::try_from(ones).ok()?)
}

/// Why an address cannot float, and what to write.
fn unfit(ip: IpAddr, prefix: u8) -> Option<(&'static str, String)> {
    let free = || "write a free address of the network that clients reach".to_owned();
    if ip.is_unspecified() {
        return Some(("no address of any host", free()));
    }
    if ip.is_loopback() {
        return Some(("a loopback address, which no client reaches", free()));
    }
    if ip.is_multicast() {
        return Some(("a multicast address", free()));
    }
    match ip {
        IpAddr::V4(v4) if v4.is_broadcast() => Some(("the broadcast address", free())),
        IpAddr::V4(v4) if prefix < 31 => {
            let host = u32::from(v4) & (u32::MAX >> prefix);
            let edge = if host == 0 { "the address of the network itself" } else { "the network's broadcast address" };
            (host == 0 || host == u32::MAX >> prefix).then(|| (edge, free()))
        }
        IpAddr::V4(_) => None,
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map(|v4| ("an IPv4 address in IPv6 form", format!("write \"{v4}/24\""))),
    }
}

fn device(given: &At<&str>, report: &mut Report) -> Option<String> {
    let name = *given.get_ref();
    let bad_char = name.chars().find(|c| matches!(c, '/' | ':') || c.is_whitespace() || c.is_control());
    let what = if name.is_empty() || name == "." || name == ".." || bad_char.is_some() {
        format!("{} is not an interface name", quoted(name))
    } else if name.len() > DEVICE_MAX_BYTES {
        format!("{} is longer than an interface name can be", quoted(name))
    } else if name == "lo" {
        "the loopback interface is reached by no client, and no lease can be enforced on it".to_owned()
    } else {
        return Some(name.to_owned());
    };
    let remedy = match bad_char {
        Some(':') => "write the interface without ':' and number; no alias is needed".to_owned(),
        Some(_) | None => format!("write {DEVICE}: 1 to {DEVICE_MAX_BYTES} bytes, as 'ip link' shows it"),
    };
    report.add(given.span(), what, remedy);
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_both_families_are_read() {
        for (text, ip, prefix) in [
            ("10.0.0.100/24", "10.0.0.100", 24),
            ("10.0.0.0/31", "10.0.0.0", 31),
            ("192.0.2.255/32", "192.0.2.255", 32),
            ("fd00::7/64", "fd00::7", 64),
            ("fe80::1/128", "fe80::1", 128),
        ] {
            assert_eq!(read_address(text), Ok((ip.parse().unwrap(), prefix)), "{text}");
        }
    }

    #[test]
    fn a_bad_address_is_told_with_the_right_one() {
        for (text, what, remedy) in [
            ("10.0.0.100", "no prefix length", "\"10.0.0.100/24\""),
            ("fd00::7", "no prefix length", "\"fd00::7/64\""),
            ("10.0.0.100/33", "must be 1 to 32", "/24"),
            ("10.0.0.100/0", "must be 1 to 32", "/24"),
            ("10.0.0.100/+24", "must be 1 to 32", "/24"),
            ("10.0.0.100/", "must be 1 to 32", "/24"),
            ("10.0.0.100/255.255.255.128", "must be 1 to 32", "/25"),
            ("10.0.0.100/255.0.255.0", "must be 1 to 32", "/24"),
            ("fd00::7/129", "must be 1 to 128", "/64"),
            ("web.example/24", "not an IP address", "no host name"),
            ("10.0.0.256/24", "not an IP address", "10.0.0.100/24"),
            ("10.0.0.0/24", "network itself", "free address"),
            ("10.0.0.255/24", "broadcast", "free address"),
            ("255.255.255.255/32", "broadcast", "free address"),
            ("0.0.0.0/24", "no address of any host", "free address"),
            ("127.0.0.1/8", "loopback", "free address"),
            ("::1/128", "loopback", "free address"),
            ("224.0.0.1/24", "multicast", "free address"),
            ("::ffff:10.0.0.1/96", "IPv4 address in IPv6 form", "\"10.0.0.1/24\""),
        ] {
            let (found, told) = read_address(text).unwrap_err();
            assert!(found.contains(what) && told.contains(remedy), "{text}: {found}; {told}");
        }
    }
}

//! utmp, the record of who is logged in.

use jiff::Timestamp;

use crate::ports::Login;

/// Where the fields stand in one record of glibc's `struct utmp`.
#[derive(Debug, Clone, Copy)]
struct Layout {
    size: usize,
    seconds: usize,
    wide_seconds: bool,
}

/// 384 bytes where glibc keeps the 32-bit layout for 32-bit programs' sake, 400 on newer 64-bit machines (Graviton).
const HERE: Layout = if cfg!(any(target_arch = "aarch64", target_arch = "riscv64", target_arch = "loongarch64")) {
    WIDE
} else {
    NARROW
};
const NARROW: Layout = Layout { size: 384, seconds: 340, wide_seconds: false };
const WIDE: Layout = Layout { size: 400, seconds: 344, wide_seconds: true };

const USER_PROCESS: u16 = 7;

/// Returns the logins of a utmp file: its records of user processes. A record cut short is left out.
pub(super) fn logins(bytes: &[u8]) -> Vec<Login> {
    parse(bytes, HERE)
}

fn parse(bytes: &[u8], layout: Layout) -> Vec<Login> {
    bytes.chunks_exact(layout.size).filter_map(|record| login(record, layout)).collect()
}

fn login(record: &[u8], layout: Layout) -> Option<Login> {
    if u16::from_ne_bytes(record.get(..2)?.try_into().ok()?) != USER_PROCESS {
        return None;
    }
    let narrow = |at: usize| Some(i32::from_ne_bytes(record.get(at..at + 4)?.try_into().ok()?));
    let seconds = if layout.wide_seconds {
        i64::from_ne_bytes(record.get(layout.seconds..layout.seconds + 8)?.try_into().ok()?)
    } else {
        // Unsigned since 2038 is near and 1901 is not.
        i64::from(narrow(layout.seconds)? as u32)
    };
    Some(Login {
        user: text(record.get(44..76)?),
        line: text(record.get(8..40)?),
        from: text(record.get(76..332)?),
        since: Timestamp::from_second(seconds).ok()?,
        pid: u32::try_from(narrow(4)?).ok()?,
    })
}

fn text(field: &[u8]) -> String {
    let end = field.iter().position(|&byte| byte == 0).unwrap_or(field.len());
    String::from_utf8_lossy(&field[..end]).into_owned()
}

#[cfg(test)]
pub(super) fn record(kind: u16, pid: i32, line: &str, user: &str, from: &str, seconds: i64) -> Vec<u8> {
    record_of(HERE, kind, pid, line, user, from, seconds)
}

#[cfg(test)]
fn record_of(layout: Layout, kind: u16, pid: i32, line: &str, user: &str, from: &str, seconds: i64) -> Vec<u8> {
    let mut record = vec![0; layout.size];
    record[..2].copy_from_slice(&kind.to_ne_bytes());
    record[4..8].copy_from_slice(&pid.to_ne_bytes());
    record[8..8 + line.len()].copy_from_slice(line.as_bytes());
    record[44..44 + user.len()].copy_from_slice(user.as_bytes());
    record[76..76 + from.len()].copy_from_slice(from.as_bytes());
    if layout.wide_seconds {
        record[layout.seconds..layout.seconds + 8].copy_from_slice(&seconds.to_ne_bytes());
    } else {
        record[layout.seconds..layout.seconds + 4].copy_from_slice(&(seconds as u32).to_ne_bytes());
    }
    record
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_user_processes_are_logins_in_both_layouts() {
        for layout in [NARROW, WIDE] {
            let mut file = record_of(layout, 2, 0, "~", "reboot", "6.1.0", 1_700_000_000);
            file.extend(record_of(layout, 7, 4242, "pts/0", "alice", "10.0.0.5", 1_700_000_100));
            file.extend(record_of(layout, 8, 4243, "pts/1", "", "", 1_700_000_200));
            file.extend([1, 2, 3]);
            let logins = parse(&file, layout);
            assert_eq!(logins.len(), 1, "{layout:?}");
            assert_eq!((logins[0].user.as_str(), logins[0].line.as_str(), logins[0].pid), ("alice", "pts/0", 4242));
            assert_eq!((logins[0].from.as_str(), logins[0].since.as_second()), ("10.0.0.5", 1_700_000_100));
        }
    }

    #[test]
    fn a_name_that_fills_its_field_has_no_end_mark() {
        let user = "u".repeat(32);
        assert_eq!(parse(&record_of(NARROW, 7, 1, "tty1", &user, "", 0), NARROW)[0].user, user);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..1_300)) {
            let _ = (parse(&bytes, NARROW), parse(&bytes, WIDE));
        }
    }
}

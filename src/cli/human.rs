//! Sizes, dates and durations for people.

use jiff::{Timestamp, tz::TimeZone};
use serde_json::Value;

use super::json;

/// `bytes` in the largest unit that leaves at least one: `6.5 TiB`.
pub fn size(bytes: i128) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes.abs() < 1024 {
        return format!("{bytes} B");
    }
    // Exact enough for three digits.
    let mut amount = bytes as f64 / 1024.0;
    let mut units = UNITS.iter();
    let mut unit = units.next().copied().unwrap_or_default();
    // 1023.95 would be printed as 1024.0.
    while amount.abs() >= 1023.95 {
        let Some(next) = units.next() else { break };
        (amount, unit) = (amount / 1024.0, next);
    }
    if amount.abs() < 99.95 { format!("{amount:.1} {unit}") } else { format!("{amount:.0} {unit}") }
}

/// Member `name`, a number of bytes, as [`size`].
pub fn size_of(value: &Value, name: &str) -> String {
    json::number(value, name).map_or_else(|| "-".to_owned(), size)
}

/// Member `name`, seconds since the epoch, as date and time in `zone`.
pub fn time_in(zone: TimeZone, value: &Value, name: &str) -> String {
    let time = json::number(value, name)
        .and_then(|seconds| i64::try_from(seconds).ok())
        .and_then(|seconds| Timestamp::from_second(seconds).ok());
    time.map_or_else(|| "-".to_owned(), |time| time.to_zoned(zone).strftime("%Y-%m-%d %H:%M:%S").to_string())
}

/// Member `name`, seconds since the epoch, as local date and time.
pub fn time_of(value: &Value, name: &str) -> String {
    time_in(TimeZone::system(), value, name)
}

/// A span of time in its two largest units: `2 h 5 min`.
pub fn duration(seconds: i128) -> String {
    match seconds {
        ..60 => format!("{} s", seconds.max(0)),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// `1 disk`, `2 disks`.
pub fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// What to say below the `shown` items of a list whose member `total` counts more.
pub fn rest(shown: usize, list: &Value) -> String {
    match json::number(list, "total") {
        Some(total) if total > shown as i128 => format!("\n{shown} of {total} are shown."),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn sizes_have_three_digits() {
        let cases = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (22_613_000_803, "21.1 GiB"),
            ((1 << 20) - 1, "1.0 MiB"),
            (150 << 30, "150 GiB"),
            (u64::MAX as i128, "16.0 EiB"),
            (-2048, "-2.0 KiB"),
        ];
        for (bytes, text) in cases {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn times_are_local() {
        let value = json!({ "created": "1497365131", "never": null, "odd": "x" });
        let berlin = TimeZone::fixed(jiff::tz::offset(2));
        assert_eq!(time_in(berlin, &value, "created"), "2017-06-13 16:45:31");
        assert_eq!([time_of(&value, "never"), time_of(&value, "odd")], ["-", "-"]);
    }

    #[test]
    fn durations_have_two_units() {
        let cases = [(-3, "0 s"), (59, "59 s"), (61, "1 min 1 s"), (7500, "2 h 5 min"), (100_000, "1 d 3 h")];
        for (seconds, text) in cases {
            assert_eq!(duration(seconds), text);
        }
    }
}

//! Sizes and times as people write them on a command line.

use jiff::{Span, Timestamp, ToSpan, Zoned, civil};

/// A size: `10G`, `1.5T`, `64K`, or plain bytes. Units are those of memory and disks: 1K is 1024.
pub fn size(text: &str) -> Result<u64, String> {
    let fault = |error| format!("{error}; write a size like 10G, 1.5T or 1073741824");
    parse_size::Config::new().with_binary().parse_size(text).map_err(fault)
}

/// A rate in bytes a second, with the units of [`size`], or none for no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate(pub Option<u64>);

impl Rate {
    /// As the API takes it, which has 0 for no limit.
    pub fn parameter(self) -> String {
        self.0.unwrap_or(0).to_string()
    }
}

/// A rate: `50M`, or `none`.
pub fn rate(text: &str) -> Result<Rate, String> {
    if text == "none" {
        return Ok(Rate(None));
    }
    size(text).map(|bytes| Rate(Some(bytes).filter(|bytes| *bytes > 0))).map_err(|error| format!("{error}, or none"))
}

/// When a snapshot expires, in seconds since the epoch: `30d` from now, through the day of `2026-12-31`, at
/// `2026-12-31T18:00`, or the seconds themselves.
pub fn expiry(text: &str) -> Result<i64, String> {
    expiry_at(text, &Zoned::now())
}

fn expiry_at(text: &str, now: &Zoned) -> Result<i64, String> {
    let time = moment(text, now).ok_or_else(|| {
        "neither a time from now on like 30d, 12h or 1y, nor a date like 2026-12-31, nor seconds since 1970".to_owned()
    })?;
    if time <= now.timestamp() {
        let date = time.to_zoned(now.time_zone().clone()).strftime("%Y-%m-%d %H:%M:%S");
        return Err(format!("{date} is not in the future; for a time from now on add a unit, as in 30d"));
    }
    Ok(time.as_second())
}

fn moment(text: &str, now: &Zoned) -> Option<Timestamp> {
    if let Ok(seconds) = text.parse() {
        return Timestamp::from_second(seconds).ok();
    }
    let in_zone = |time: civil::DateTime| time.to_zoned(now.time_zone().clone()).ok().map(|time| time.timestamp());
    // Only a date with a time has a colon.
    if text.contains(':') {
        return text.parse().ok().or_else(|| in_zone(text.parse().ok()?));
    }
    if let Ok(date) = text.parse::<civil::Date>() {
        // It is kept through that day.
        return in_zone(date.checked_add(1.day()).ok()?.to_datetime(civil::Time::midnight()));
    }
    now.checked_add(text.parse::<Span>().ok()?).ok().map(|time| time.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_binary_units() {
        let cases = [
            ("0", 0),
            ("1073741824", 1 << 30),
            ("10G", 10 << 30),
            ("10g", 10 << 30),
            ("10GiB", 10 << 30),
            ("1.5T", 3 << 39),
            ("64K", 65_536),
            ("64 KB", 65_536),
        ];
        for (text, bytes) in cases {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for bad in ["", "-1", "G", "10 apples", "99999999E", "1,5T"] {
            assert!(size(bad).unwrap_err().ends_with("write a size like 10G, 1.5T or 1073741824"), "{bad}");
        }
    }

    #[test]
    fn rates_are_sizes_or_none() {
        let cases = [("50M", Some(50 << 20)), ("none", None), ("0", None), ("1048576", Some(1 << 20))];
        for (text, bytes) in cases {
            assert_eq!(rate(text), Ok(Rate(bytes)), "{text}");
        }
        assert!(rate("fast").unwrap_err().ends_with("or none"));
        assert_eq!((Rate(None).parameter(), Rate(Some(7)).parameter()), ("0".to_owned(), "7".to_owned()));
    }

    #[test]
    fn times_are_spans_dates_or_seconds() {
        let now: Zoned = "2026-03-01T12:00:00+01:00[Europe/Berlin]".parse().unwrap();
        let cases = [
            ("30d", "2026-03-31T12:00:00+02:00"),
            ("12h", "2026-03-02T00:00:00+01:00"),
            ("1y", "2027-03-01T12:00:00+01:00"),
            ("1d 12h", "2026-03-03T00:00:00+01:00"),
            ("2026-12-31", "2027-01-01T00:00:00+01:00"),
            ("2026-03-01", "2026-03-02T00:00:00+01:00"),
            ("2026-12-31T18:00", "2026-12-31T18:00:00+01:00"),
            ("2026-12-31 18:00", "2026-12-31T18:00:00+01:00"),
            ("2026-12-31T18:00:00Z", "2026-12-31T18:00:00Z"),
            ("1797365131", "2026-12-15T20:05:31Z"),
        ];
        for (text, expected) in cases {
            assert_eq!(expiry_at(text, &now), Ok(expected.parse::<Timestamp>().unwrap().as_second()), "{text}");
        }
        for bad in ["30", "2026-02-28", "-30d", "0d", "1497365131"] {
            assert!(expiry_at(bad, &now).unwrap_err().contains("not in the future"), "{bad}");
        }
        for bad in ["", "soon", "none", "2026-13-01", "30 apples", "9223372036854775807", "25:00"] {
            assert!(expiry_at(bad, &now).unwrap_err().contains("neither"), "{bad}");
        }
    }
}

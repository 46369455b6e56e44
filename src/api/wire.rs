//! How values look in JSON, once for all routes: numbers are decimal strings, `total` alone is a number.

use std::{fmt, ops::RangeInclusive};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use utoipa::ToSchema;

use crate::types::{Epoch, HostId, Invalid, PoolId, SessionId, ShareId, SnapshotId, VolumeId};

/// A whole number: a decimal string in answers; in requests a JSON number means the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ToSchema)]
#[schema(value_type = String, pattern = "^-?[0-9]+$", example = "1497365131")]
pub struct Decimal(i128);

impl Decimal {
    /// The number, when it fits.
    pub fn get<T: TryFrom<i128>>(self) -> Option<T> {
        T::try_from(self.0).ok()
    }

    /// The number, when it is in `range`; else an error that names `member`.
    pub fn within(self, member: &str, range: RangeInclusive<i64>) -> Result<i64, Invalid> {
        self.get().filter(|number| range.contains(number)).ok_or_else(|| {
            let (first, last) = (range.start(), range.end());
            Invalid::new(member, format!("{} is not a whole number from {first} to {last}", self.0))
        })
    }

    /// The number as an id.
    pub fn id(self, member: &str) -> Result<i64, Invalid> {
        self.within(member, 1..=i64::MAX)
    }

    /// The number as a size, which is never zero.
    pub fn bytes(self, member: &str) -> Result<u64, Invalid> {
        self.within(member, 1..=i64::MAX).map(i64::unsigned_abs)
    }
}

macro_rules! decimal_from {
    ($($number:ty)*) => {$(
        impl From<$number> for Decimal {
            fn from(number: $number) -> Self {
                Decimal(number.into())
            }
        }
    )*};
}
decimal_from!(u8 u16 u32 u64 i64);

macro_rules! decimal_from_inside {
    ($($number:ty)*) => {$(
        impl From<$number> for Decimal {
            fn from(number: $number) -> Self {
                number.0.into()
            }
        }
    )*};
}
decimal_from_inside!(PoolId VolumeId SnapshotId ShareId HostId SessionId Epoch);

impl Serialize for Decimal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Decimal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl de::Visitor<'_> for Either {
            type Value = Decimal;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a whole number, as a JSON number or a decimal string")
            }
            fn visit_u64<E>(self, number: u64) -> Result<Decimal, E> {
                Ok(number.into())
            }
            fn visit_i64<E>(self, number: i64) -> Result<Decimal, E> {
                Ok(number.into())
            }
            /// JSON has one kind of number, and some clients write all of them as this. Beyond 2^53 it is no longer sure
            /// which whole number was meant.
            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Decimal, E> {
                const SURE: f64 = (1_u64 << 53) as f64;
                match number.trunc() == number && number.abs() < SURE {
                    true => Ok(Decimal(number as i128)),
                    false => Err(E::invalid_value(de::Unexpected::Float(number), &self)),
                }
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Decimal, E> {
                let digits = text.strip_prefix('-').unwrap_or(text);
                if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                    return Err(E::invalid_value(de::Unexpected::Str(text), &self));
                }
                text.parse().map(Decimal).map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

/// A whole number, or the word `none` where a number is to be taken away: `null` counts as absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ToSchema)]
#[schema(value_type = String, pattern = "^([0-9]+|none)$", example = "1497365131")]
pub struct DecimalOrNone(pub Option<Decimal>);

impl<'de> Deserialize<'de> for DecimalOrNone {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        if value == "none" {
            return Ok(DecimalOrNone(None));
        }
        let number = Decimal::deserialize(value).map_err(|error| de::Error::custom(format!("{error}, or \"none\"")))?;
        Ok(DecimalOrNone(Some(number)))
    }
}

/// A boolean in a query string: `1`, `true`, `0`, `false`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Flag(pub bool);

impl<'de> Deserialize<'de> for Flag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.as_str() {
            "1" | "true" => Ok(Flag(true)),
            "0" | "false" => Ok(Flag(false)),
            _ => Err(de::Error::invalid_value(de::Unexpected::Str(&text), &"one of 1, true, 0, false")),
        }
    }
}

/// A text that must not turn up in messages or logs: unlike with `String`, errors do not quote it.
pub struct Secret(zeroize::Zeroizing<String>);

impl Secret {
    /// The text.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret(..)")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match serde_json::Value::deserialize(deserializer)? {
            serde_json::Value::String(text) => Ok(Secret(text.into())),
            _ => Err(de::Error::custom("must be a string")),
        }
    }
}

/// `{}`: what DELETE and actions without a result answer.
#[derive(Debug, Default, Serialize, ToSchema)]
pub struct Empty {}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json, to_value};

    use super::*;

    #[test]
    fn numbers_go_out_as_strings_and_come_in_as_both() {
        assert_eq!(to_value(Decimal::from(u64::MAX)).unwrap(), json!("18446744073709551615"));
        for one in [json!(7), json!("7"), json!("007")] {
            assert_eq!(from_value::<Decimal>(one).unwrap().get(), Some(7u64));
        }
        assert_eq!(from_value::<Decimal>(json!(-7)).unwrap().get::<u64>(), None);
        for (whole, number) in [("1649267441664.0", 1_649_267_441_664_i64), ("1e3", 1000), ("-0.0", 0), ("-7.0", -7)] {
            assert_eq!(serde_json::from_str::<Decimal>(whole).unwrap(), Decimal::from(number), "{whole}");
        }
        for bad in ["1.5", "0.1", "9007199254740992.0", "-9007199254740992.0", "1e300", "1e-3"] {
            assert!(serde_json::from_str::<Decimal>(bad).is_err(), "{bad}");
        }
        assert_eq!(serde_json::from_str::<DecimalOrNone>("4096.0").unwrap(), DecimalOrNone(Some(4096_u64.into())));
        for bad in [json!(1.5), json!("1.5"), json!(""), json!("-"), json!("+1"), json!(" 1"), json!(true), json!([1])]
        {
            assert!(from_value::<Decimal>(bad.clone()).is_err(), "{bad}");
        }
        assert!(from_value::<Decimal>(json!("9".repeat(60))).is_err());
    }

    #[test]
    fn ranges_name_the_member() {
        let decimal = |number: i64| Decimal::from(number);
        assert_eq!(decimal(5).within("x", 1..=5), Ok(5));
        for bad in [0, 6, -5] {
            assert_eq!(decimal(bad).within("x", 1..=5).unwrap_err().field, "x");
        }
        assert_eq!(Decimal::from(i64::MAX).bytes("x"), Ok(i64::MAX as u64));
        assert!(Decimal::from(1u64 << 63).bytes("x").is_err() && decimal(0).id("x").is_err());
    }

    #[test]
    fn a_number_can_be_taken_away() {
        assert_eq!(from_value::<DecimalOrNone>(json!("none")).unwrap(), DecimalOrNone(None));
        for seven in [json!(7), json!("7")] {
            assert_eq!(from_value::<DecimalOrNone>(seven).unwrap(), DecimalOrNone(Some(7u64.into())));
        }
        for bad in [json!("None"), json!(""), json!(1.5), json!(true), json!("never")] {
            assert!(
                from_value::<DecimalOrNone>(bad.clone()).unwrap_err().to_string().ends_with("or \"none\""),
                "{bad}"
            );
        }
    }

    #[test]
    fn query_booleans_have_four_spellings() {
        for (text, flag) in [("1", true), ("true", true), ("0", false), ("false", false)] {
            assert_eq!(from_value::<Flag>(json!(text)).unwrap(), Flag(flag));
        }
        for bad in ["", "yes", "TRUE", "2"] {
            assert!(from_value::<Flag>(json!(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_secret_is_never_quoted() {
        let error = from_value::<Secret>(json!({"deep": "hunter2"})).unwrap_err().to_string();
        assert!(!error.contains("hunter2"), "{error}");
        assert_eq!(format!("{:?}", from_value::<Secret>(json!("hunter2")).unwrap()), "Secret(..)");
    }
}

//! How values look in JSON, once for all routes: numbers are decimal strings, `total` alone is a number.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use utoipa::ToSchema;

use crate::types::{Epoch, PoolId};

/// A whole number as the contract has it: a decimal string in answers; in requests a JSON number means the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ToSchema)]
#[schema(value_type = String, pattern = "^-?[0-9]+$", example = "1497365131")]
pub struct Decimal(i128);

impl Decimal {
    /// The number, when it fits.
    pub fn get<T: TryFrom<i128>>(self) -> Option<T> {
        T::try_from(self.0).ok()
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
decimal_from!(u8 u32 u64 i64);

impl From<PoolId> for Decimal {
    fn from(id: PoolId) -> Self {
        id.0.into()
    }
}

impl From<Epoch> for Decimal {
    fn from(time: Epoch) -> Self {
        time.0.into()
    }
}

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
        for bad in [json!(1.5), json!("1.5"), json!(""), json!("-"), json!("+1"), json!(" 1"), json!(true), json!([1])]
        {
            assert!(from_value::<Decimal>(bad.clone()).is_err(), "{bad}");
        }
        assert!(from_value::<Decimal>(json!("9".repeat(60))).is_err());
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

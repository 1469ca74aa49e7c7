//! Quantities as people write them: `"16MiB"`, `"90d"`, `"200/s"`, and "one or a list".
//!
//! Guarantees: parsing never panics or wraps; errors name the accepted forms. Not arithmetic.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserializer, Error as _, Unexpected};
use serde::{Deserialize, Serialize};

/// A number of bytes: `"512KiB"`, `"1MB"` (decimal), or a plain number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

/// A length of time: `"500ms"`, `"30s"`, `"10m"`, `"6h"`, `"90d"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

/// Events per time: `"200/s"`, `"30/h"`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// Events in one `per`.
    pub events: u32,
    /// The period.
    pub per: Duration,
}

/// A single value or a list of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum OneOrMany<T> {
    /// `key = "value"`
    One(T),
    /// `key = ["value", "value"]`
    Many(Vec<T>),
}

impl<T> OneOrMany<T> {
    /// The values as a slice.
    pub fn as_slice(&self) -> &[T] {
        match self {
            Self::One(value) => std::slice::from_ref(value),
            Self::Many(values) => values,
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OneOrMany<T> {
    // By hand instead of `untagged`, so that a bad value keeps its own message.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor<T>(std::marker::PhantomData<T>);
        impl<'de, T: Deserialize<'de>> serde::de::Visitor<'de> for Visitor<T> {
            type Value = OneOrMany<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value or a list of values")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
                T::deserialize(serde::de::value::StrDeserializer::new(text)).map(OneOrMany::One)
            }
            fn visit_seq<A: serde::de::SeqAccess<'de>>(
                self,
                seq: A,
            ) -> Result<Self::Value, A::Error> {
                Vec::deserialize(serde::de::value::SeqAccessDeserializer::new(seq))
                    .map(OneOrMany::Many)
            }
        }
        deserializer.deserialize_any(Visitor(std::marker::PhantomData))
    }
}

/// Splits `"16MiB"` into 16 and "MiB".
fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..digits].parse().ok()?, text[digits..].trim()))
}

fn period(unit: &str) -> Option<Duration> {
    Some(match unit {
        "ms" => Duration::from_millis(1),
        "s" | "sec" => Duration::from_secs(1),
        "m" | "min" => Duration::from_secs(60),
        "h" => Duration::from_secs(3_600),
        "d" => Duration::from_secs(86_400),
        "w" => Duration::from_secs(7 * 86_400),
        _ => return None,
    })
}

impl FromStr for ByteSize {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let bad =
            || format!("`{text}` is not a size; write bytes like \"16MiB\", \"512KiB\" or \"1MB\"");
        let (number, unit) = number_and_unit(text).ok_or_else(bad)?;
        let factor: u64 = match unit.to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "kb" | "k" => 1_000,
            "mb" | "m" => 1_000_000,
            "gb" | "g" => 1_000_000_000,
            "kib" => 1 << 10,
            "mib" => 1 << 20,
            "gib" => 1 << 30,
            "tib" => 1 << 40,
            _ => return Err(bad()),
        };
        number.checked_mul(factor).map(Self).ok_or_else(bad)
    }
}

impl FromStr for Span {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || {
            format!(
                "`{text}` is not a length of time; write it like \"500ms\", \"30s\", \"10m\", \"6h\" or \"90d\""
            )
        };
        let (number, unit) = number_and_unit(text).ok_or_else(bad)?;
        let unit = period(unit).ok_or_else(bad)?;
        // A century is the limit: no timer or timestamp can overflow on it.
        let ms = u64::try_from(unit.as_millis()).ok().and_then(|ms| ms.checked_mul(number));
        match ms {
            Some(ms) if ms <= 100 * 366 * 86_400_000 => Ok(Self(Duration::from_millis(ms))),
            _ => Err(bad()),
        }
    }
}

impl FromStr for Rate {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let bad =
            || format!("`{text}` is not a rate; write it like \"200/s\", \"600/m\" or \"30/h\"");
        let (events, unit) = text.split_once('/').ok_or_else(bad)?;
        let events = events.trim().parse().map_err(|_| bad())?;
        let per = period(unit.trim()).ok_or_else(bad)?;
        if events == 0 { Err(bad()) } else { Ok(Self { events, per }) }
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(1u64 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
        match units.iter().find(|(size, _)| self.0 >= *size && self.0.is_multiple_of(*size)) {
            Some((size, unit)) => write!(f, "{}{unit}", self.0 / size),
            None => write!(f, "{}B", self.0),
        }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0.as_millis();
        let units = [(86_400_000u128, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")];
        match units.iter().find(|(size, _)| ms >= *size && ms.is_multiple_of(*size)) {
            Some((size, unit)) => write!(f, "{}{unit}", ms / size),
            None => write!(f, "{ms}ms"),
        }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let per = Span(self.per).to_string();
        write!(f, "{}/{}", self.events, per.trim_start_matches('1'))
    }
}

/// Serde as text, and the schema of that text.
macro_rules! as_text {
    ($type:ty, $name:literal, $example:literal, $types:tt, $pattern:literal) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                // The environment's layer makes a number of "0" before anybody asks.
                let text = match serde_json::Value::deserialize(deserializer)? {
                    serde_json::Value::String(text) => text,
                    serde_json::Value::Number(number) => number.to_string(),
                    _ => {
                        let expected = concat!("text like \"", $example, "\"");
                        return Err(D::Error::invalid_type(Unexpected::Other("it"), &expected));
                    }
                };
                text.parse().map_err(D::Error::custom)
            }
        }
        impl Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": $types, "pattern": $pattern, "examples": [$example] })
            }
        }
    };
}
as_text!(
    ByteSize,
    "ByteSize",
    "16MiB",
    ["string", "integer"],
    "^ *[0-9]+ *([kKmMgG]([iI]?[bB])?|[tT][iI][bB]|[bB])? *$"
);
as_text!(Span, "Span", "30s", "string", "^ *[0-9]+ *(ms|s|sec|m|min|h|d|w) *$");
as_text!(Rate, "Rate", "200/s", "string", "^ *[0-9]+ */ *(ms|s|sec|m|min|h|d|w) *$");

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn usual_spellings() {
        assert_eq!("16MiB".parse(), Ok(ByteSize(16 << 20)));
        assert_eq!("1 MB".parse(), Ok(ByteSize(1_000_000)));
        assert_eq!("90d".parse(), Ok(Span(Duration::from_secs(90 * 86_400))));
        assert_eq!("0s".parse(), Ok(Span(Duration::ZERO)));
        assert_eq!("200/s".parse(), Ok(Rate { events: 200, per: Duration::from_secs(1) }));
        for bad in ["", "12 parsecs", "-1s", "99999999999999999999d", "1/fortnight", "0/s"] {
            assert!(bad.parse::<Span>().is_err() && bad.parse::<Rate>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn sizes_and_spans_read_back(number in 0u64..1 << 40, ms in 0u64..1 << 40) {
            prop_assert_eq!(ByteSize(number).to_string().parse(), Ok(ByteSize(number)));
            let span = Span(Duration::from_millis(ms));
            prop_assert_eq!(span.to_string().parse(), Ok(span));
        }

        #[test]
        fn nothing_panics(text in "\\PC*") {
            let _ = (text.parse::<ByteSize>(), text.parse::<Span>(), text.parse::<Rate>());
        }
    }
}

//! Reading the API's answers, and the few places where `--json` differs from them.
//!
//! Scripts that watch vSnap systems read `vsnap --json pool show` and `vsnap --json system stats`; what they expect
//! there is: ratios without the `x` of the API, `health`, `diskgroup_size` and the statistics as JSON numbers, and an
//! object `encryption`. Everything else is printed as the API has it.

use serde_json::{Map, Value, json};

/// The six numbers of `system stats`, in the order in which they are printed.
pub const STATISTICS: [&str; 6] = [
    "size_arc_max",
    "size_arc_used",
    "size_ddt_core",
    "size_ddt_disk",
    "size_zfs_arc_meta_max",
    "size_zfs_arc_meta_used",
];

/// Member `name` as text: strings as they are, numbers and booleans in digits and words, `-` where there is nothing.
pub fn text(value: &Value, name: &str) -> String {
    match &value[name] {
        Value::Null => "-".to_owned(),
        Value::String(text) if text.is_empty() => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) if items.is_empty() => "-".to_owned(),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(", "),
        other => plain(other),
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Member `name` as a whole number; the API has numbers as decimal strings.
pub fn number(value: &Value, name: &str) -> Option<i128> {
    match &value[name] {
        Value::String(text) => text.parse().ok(),
        Value::Number(number) => number.as_i128(),
        _ => None,
    }
}

/// The items of the list in member `name`; none when it isn't one.
pub fn items<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value[name].as_array().map_or(&[], Vec::as_slice)
}

/// A pool's detail as `--json` shows it.
pub fn pool(mut pool: Value) -> Value {
    let Value::Object(members) = &mut pool else { return pool };
    for name in ["compression_ratio", "deduplication_ratio"] {
        if let Some(Value::String(ratio)) = members.get_mut(name)
            && let Some(bare) = ratio.strip_suffix('x')
        {
            *ratio = bare.to_owned();
        }
    }
    for name in ["health", "diskgroup_size"] {
        if let Some(value) = members.get_mut(name) {
            to_number(value);
        }
    }
    // The appliance has no encrypted pools yet; a daemon that knows better is believed.
    members.entry("encryption").or_insert_with(|| json!({ "enabled": false }));
    pool
}

/// The statistics as `--json` shows them: these six members and no others, as numbers.
pub fn statistics(answer: &Value) -> Value {
    let member = |name: &str| {
        let mut value = answer[name].clone();
        to_number(&mut value);
        (name.to_owned(), value)
    };
    Value::Object(STATISTICS.into_iter().map(member).collect::<Map<_, _>>())
}

fn to_number(value: &mut Value) {
    if let Value::String(digits) = value
        && let Ok(number) = digits.parse::<u64>()
    {
        *value = number.into();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_is_shown_as_scripts_expect_it() {
        let answer = json!({
            "compression": true, "compression_ratio": "1.00x", "deduplication_ratio": "12.34x",
            "diskgroup_size": "8", "health": "100", "id": "1", "size_total": "22613000803", "name": "8x",
        });
        let expected = json!({
            "compression": true, "compression_ratio": "1.00", "deduplication_ratio": "12.34",
            "diskgroup_size": 8, "health": 100, "id": "1", "size_total": "22613000803", "name": "8x",
            "encryption": { "enabled": false },
        });
        assert_eq!(pool(answer), expected);
        // Twice is no different, and a pool that is not imported has no ratios.
        assert_eq!(pool(expected.clone()), expected);
        let absent = pool(json!({ "compression_ratio": null, "health": "0" }));
        assert_eq!(absent, json!({ "compression_ratio": null, "health": 0, "encryption": { "enabled": false } }));
    }

    #[test]
    fn statistics_are_these_six_and_no_others() {
        let mut answer = Map::new();
        for (at, name) in STATISTICS.into_iter().enumerate() {
            answer.insert(name.to_owned(), at.to_string().into());
        }
        answer.insert("size_of_the_moon".to_owned(), "1".into());
        let shown = statistics(&Value::Object(answer));
        assert_eq!(shown.as_object().unwrap().keys().collect::<Vec<_>>(), STATISTICS);
        assert_eq!(shown["size_zfs_arc_meta_used"], json!(5));
    }

    #[test]
    fn members_are_read_leniently() {
        let value = json!({ "a": "12", "b": 12, "c": null, "d": ["x", "y"], "e": true, "f": [], "g": "" });
        assert_eq!([number(&value, "a"), number(&value, "b"), number(&value, "c")], [Some(12), Some(12), None]);
        let texts = ["a", "b", "c", "d", "e", "f", "g", "h"].map(|name| text(&value, name));
        assert_eq!(texts, ["12", "12", "-", "x, y", "true", "-", "-", "-"]);
    }
}

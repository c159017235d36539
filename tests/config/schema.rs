//! `config schema`: whatever is right conforms to it, and what is mistyped does not.

use eventflux::config::schema;
use eventflux::daemon::catalogue::{CONTROL, all_options};
use serde_json::Value;

/// The first thing at which `value` does not conform; understands the part of JSON Schema that
/// `config schema` uses, and no more.
fn misfit(root: &Value, schema: &Value, value: &Value, at: &str) -> Option<String> {
    let fault = |why: &str| Some(format!("{at}: {why}: {value}"));
    for (word, rule) in schema.as_object().unwrap() {
        let found = match word.as_str() {
            "$schema" | "$defs" | "title" | "description" | "default" | "writeOnly" => None,
            "$ref" => {
                let target = rule.as_str().unwrap().strip_prefix('#').unwrap();
                let target = root
                    .pointer(target)
                    .unwrap_or_else(|| panic!("no {target}"));
                misfit(root, target, value, at)
            }
            "type" => {
                let fits = match rule.as_str().unwrap() {
                    "object" => value.is_object(),
                    "array" => value.is_array(),
                    "string" => value.is_string(),
                    "integer" => value.is_i64(),
                    "number" => value.is_number(),
                    "boolean" => value.is_boolean(),
                    other => panic!("the test knows no type {other}"),
                };
                if fits { None } else { fault("type") }
            }
            "enum" if rule.as_array().unwrap().contains(value) => None,
            "enum" => fault("enum"),
            "minimum" if value.as_f64() < rule.as_f64() && value.is_number() => fault("minimum"),
            "maximum" if value.as_f64() > rule.as_f64() && value.is_number() => fault("maximum"),
            "minLength" if value.as_str().is_some_and(str::is_empty) => fault("minLength"),
            "minItems" if value.as_array().is_some_and(Vec::is_empty) => fault("minItems"),
            "minimum" | "maximum" | "minLength" | "minItems" => None,
            "pattern" => {
                let pattern = regex_lite::Regex::new(rule.as_str().unwrap()).unwrap();
                let fits = value.as_str().is_none_or(|text| pattern.is_match(text));
                if fits { None } else { fault("pattern") }
            }
            "anyOf" => {
                let mut options = rule.as_array().unwrap().iter();
                let fits = options.any(|option| misfit(root, option, value, at).is_none());
                if fits { None } else { fault("anyOf") }
            }
            "items" => {
                let items = value.as_array().into_iter().flatten();
                items.filter_map(|item| misfit(root, rule, item, at)).next()
            }
            "properties" | "patternProperties" | "additionalProperties" => {
                members(root, schema, word, value, at)
            }
            other => panic!("the test knows no {other}"),
        };
        if found.is_some() {
            return found;
        }
    }
    None
}

fn members(root: &Value, schema: &Value, word: &str, value: &Value, at: &str) -> Option<String> {
    let named = |name: &str| schema.get("properties").and_then(|all| all.get(name));
    let patterned = |name: &str| {
        let mut patterns = schema.get("patternProperties")?.as_object()?.iter();
        let found =
            patterns.find(|(pattern, _)| regex_lite::Regex::new(pattern).unwrap().is_match(name));
        found.map(|(_, rule)| rule)
    };
    for (name, inner) in value.as_object()? {
        let at = format!("{at}.{name}");
        let rule = match word {
            "properties" => named(name),
            "patternProperties" => patterned(name),
            _ if named(name).or(patterned(name)).is_some() => None,
            _ => match &schema["additionalProperties"] {
                Value::Bool(false) => return Some(format!("{at}: unknown")),
                rule => Some(rule),
            },
        };
        if let Some(found) = rule.and_then(|rule| misfit(root, rule, inner, &at)) {
            return Some(found);
        }
    }
    None
}

fn check(toml: &str) -> Option<String> {
    let schema = schema(&all_options(), CONTROL);
    let table: toml::Table = toml::from_str(toml).unwrap();
    let value = serde_json::to_value(table).unwrap();
    misfit(&schema, &schema, &value, "")
}

#[test]
fn the_files_as_shipped_conform() {
    let shipped = std::fs::read_to_string("config/eventflux.toml").unwrap();
    let switched_on = shipped.replace("#: ", "");
    assert!(
        switched_on.contains("\ncache_bytes = "),
        "the defaults are not switched on"
    );
    let quickstart = std::fs::read_to_string("config/quickstart.toml").unwrap();
    for toml in [shipped, switched_on, quickstart] {
        assert_eq!(check(&toml), None, "{toml}");
    }
    let mut examples = 0;
    for entry in std::fs::read_dir("config/examples").unwrap() {
        let path = entry.unwrap().path();
        if path
            .extension()
            .is_some_and(|extension| extension == "toml")
        {
            examples += 1;
            assert_eq!(
                check(&std::fs::read_to_string(&path).unwrap()),
                None,
                "{path:?}"
            );
        }
    }
    assert!(examples > 0, "no examples");
}

#[test]
fn what_is_mistyped_does_not_conform() {
    let table = [
        ("[store]\npath = \"/x\"\ncache_bytes = 2097152", None),
        ("[store]\npth = \"/x\"", Some(".store.pth: unknown")),
        ("[stor]\npath = \"/x\"", Some(".stor: unknown")),
        ("path = \"/x\"", Some(".path: unknown")),
        (
            "[store]\ndurability = \"alway\"",
            Some(".store.durability: anyOf: \"alway\""),
        ),
        ("[store]\ndurability = \"${HOW:always}\"", None),
        (
            "[store]\nsync_interval = 0",
            Some(".store.sync_interval: anyOf: 0"),
        ),
        (
            "[store]\nsync_interval = \"soon\"",
            Some(".store.sync_interval: anyOf: \"soon\""),
        ),
        (
            "[application]\nsql = [\"a.sql\"]\nmqtt.qos = 1\nstore.path = 1",
            Some(".application.store: unknown"),
        ),
        ("[streams.S]\nmqtt.broker = \"b\"", None),
        ("[streams.S]\n\"mqtt.broker\" = \"b\"", None),
        ("[streams.S.mqtt]\nbroker = \"b\"", None),
        (
            "[streams.S]\nmqtt.topic = \"t\"\n\"mqtt.topic.column\" = \"c\"",
            None,
        ),
        ("[streams.S]\nmqtt.topic.column = \"c\"", None),
        (
            "[streams.S]\nmqtt.brocker = \"b\"",
            Some(".streams.S.mqtt.brocker: unknown"),
        ),
        ("[streams.S]\njson.mapping.temp = \"$.v\"", None),
        ("[streams.S]\n\"json.mapping.temp\" = \"$.v\"", None),
        (
            "[streams.S]\njson.mapping.temp = 5",
            Some(".streams.S.json.mapping.temp: type: 5"),
        ),
        (
            "[streams.S]\njson.missing = \"maybe\"",
            Some(".streams.S.json.missing: anyOf"),
        ),
        (
            "[streams.S]\nqueue.batch_rows_max = 0",
            Some(".streams.S.queue.batch_rows_max: anyOf: 0"),
        ),
        ("[streams.S]\nqueue.batch_rows_max = \"${ROWS}\"", None),
        ("[streams]\nS = 5", Some(".streams.S: type: 5")),
    ];
    for (toml, expected) in table {
        match (check(toml), expected) {
            (None, None) => {}
            (Some(found), Some(part)) => assert!(found.starts_with(part), "{toml}: {found}"),
            (found, expected) => panic!("{toml}: {found:?}, not {expected:?}"),
        }
    }
}

#[test]
fn it_tells_defaults_units_and_secrets() {
    let schema = schema(&all_options(), CONTROL);
    let password = &schema["$defs"]["mqtt.password"];
    assert_eq!(password["writeOnly"], true, "{password}");
    let keep = &schema["properties"]["checkpoint"]["properties"]["keep"];
    assert_eq!(keep["default"], 2);
    assert_eq!(keep["anyOf"][0]["maximum"], 1000);
    let interval = &schema["properties"]["checkpoint"]["properties"]["interval"];
    assert_eq!(interval["default"], "60 s");
    assert!(
        interval["description"]
            .as_str()
            .unwrap()
            .contains("two checkpoints")
    );
}

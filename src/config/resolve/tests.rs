//! Layers and faults of the options of one stream.

use std::path::Path;

use super::*;
use crate::config::options::OptionKind;
use crate::config::{list, read};

const fn spec(name: &'static str, kind: OptionKind) -> OptionSpec {
    OptionSpec::new(name, kind, "Which messages.")
}

const MQTT: &[OptionSpec] = &[
    OptionSpec {
        required: true,
        ..spec("mqtt.topic", OptionKind::Text)
    },
    OptionSpec {
        default: Some("1"),
        ..spec("mqtt.qos", OptionKind::Integer { min: 0, max: 2 })
    },
    OptionSpec {
        secret: true,
        ..spec("mqtt.password", OptionKind::Text)
    },
    OptionSpec {
        default: Some("5 s"),
        ..spec("mqtt.keep_alive", OptionKind::Duration)
    },
];
const JSON: &[OptionSpec] = &[spec("json.mapping.*", OptionKind::Text)];
const HTTP: &[OptionSpec] = &[spec("http.url", OptionKind::Text)];

fn environment(name: &str) -> Option<String> {
    (name == "PLANT").then(|| "north".to_owned())
}

fn resolved(toml: &str, sql: &[(&str, &str)]) -> Result<Vec<String>, Vec<String>> {
    let loaded = read(toml, "e.toml", Path::new("/etc"), &environment).expect("sound TOML");
    let place = |line| Place {
        line,
        column: 1,
        length: 1,
    };
    let properties: Vec<Property> = (1..)
        .zip(sql)
        .map(|(line, (name, value))| Property {
            name: (*name).to_owned(),
            value: (*value).to_owned(),
            place: place(line),
            value_place: place(line),
        })
        .collect();
    let stream = StreamDefinition {
        name: "Readings",
        path: "a.sql",
        place: place(9),
        properties: &properties,
        specs: &[MQTT, JSON],
    };
    let expander = Expander::new(&environment, &loaded.settings.secrets.path);
    let mut unused = unknown_streams(&loaded.settings, &["Readings"]);
    unused.extend(unknown_keys(&loaded.settings, &[MQTT, JSON, HTTP]));
    let options = resolve(stream, &loaded.settings, &expander).and_then(|options| {
        if unused.is_empty() {
            Ok(options)
        } else {
            Err(unused)
        }
    });
    match options {
        Ok(options) => Ok(list(
            &loaded.settings,
            &[("Readings", &options)],
            &Options::default(),
        )
        .iter()
        .filter_map(|value| {
            Some(
                value
                    .to_string()
                    .strip_prefix("streams.Readings.")?
                    .to_owned(),
            )
        })
        .collect()),
        Err(faults) => Err(faults
            .iter()
            .map(|fault| {
                let place = fault.place.unwrap_or_default();
                let hint = fault.hint.as_deref().unwrap_or("");
                format!("{}:{} {}; {hint}", fault.path, place.line, fault.message)
            })
            .collect()),
    }
}

#[test]
fn the_stronger_layer_wins_and_every_value_names_its_own() {
    let toml = "[application]\nmqtt.keep_alive = 2500\nhttp.url = \"x\"\n\
        mqtt.topic = \"a\"\n[streams.Readings]\nmqtt.topic = \"b/${PLANT}\"\nmqtt.qos = 2\n";
    let sql = [
        ("type", "source"),
        ("mqtt.qos", "0"),
        ("mqtt.password", "hunter2"),
        ("json.mapping.temp", "$.v.t"),
    ];
    let expected = [
        "json.mapping.temp = \"$.v.t\"  # sql, a.sql:4",
        "mqtt.keep_alive = \"2500 ms\"  # application, e.toml:2",
        "mqtt.password = [hidden]  # sql, a.sql:3",
        "mqtt.qos = 0  # sql, a.sql:2",
        "mqtt.topic = \"b/north\"  # stream, e.toml:6",
    ];
    assert_eq!(resolved(toml, &sql).unwrap(), expected);
}

/// TOML, properties in SQL, faults.
type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a [&'a str]);

#[test]
fn every_fault_is_told_with_its_place() {
    let toml = "[application]\nnam = \"y\"\nmqtt.tpic = \"x\"\n[streams.Reading]\na = 1\n";
    let needs = "a.sql:9 stream 'Readings' needs the option 'mqtt.topic'; \
        write it in the stream's WITH (…) or under [streams.Readings]: Which messages.";
    let table: [Case; 5] = [
        (
            "",
            &[("mqtt.qos", "3"), ("mqtt.qos", "1")],
            &[
                "a.sql:1 'mqtt.qos' must be a whole number from 0 to 2, not '3'; ",
                "a.sql:2 'mqtt.qos' is written twice; remove one of them",
                needs,
            ],
        ),
        (
            "",
            &[
                ("mqtt.topik", "x"),
                ("json.mapping.", "x"),
                ("mqtt.topic", "${NO}"),
            ],
            &[
                "a.sql:1 unknown option 'mqtt.topik' of stream 'Readings'; \
                 did you mean 'mqtt.topic'?",
                "a.sql:2 unknown option 'json.mapping.' of stream 'Readings'; \
                 did you mean 'json.mapping.*'?",
                "a.sql:3 the environment variable 'NO' is not set; \
                 set it, or give a default: ${NO:default}",
            ],
        ),
        (
            "[streams.Readings]\nformat = \"json\"\nmqtt.topic = true\n",
            &[],
            &[
                "e.toml:2 'format' stands in SQL only; \
                 write 'format' = '…' in the stream's WITH (…)",
                "e.toml:3 'mqtt.topic' must be text in quotes that is not empty, not true; ",
            ],
        ),
        (
            toml,
            &[("mqtt.topic", "x")],
            &[
                "e.toml:4 there is no stream 'Reading'; did you mean 'Readings'?",
                "e.toml:2 unknown key 'nam' in [application]; did you mean 'name'?",
                "e.toml:3 unknown key 'mqtt.tpic' in [application]; did you mean 'mqtt.topic'?",
            ],
        ),
        (
            "",
            &[("mqtt.topic", "x"), ("mqtt.password", "")],
            &["a.sql:2 'mqtt.password' must be text in quotes that is not empty; "],
        ),
    ];
    for (toml, sql, expected) in table {
        assert_eq!(resolved(toml, sql).unwrap_err(), expected);
    }
}

//! Nothing that is published or logged tells a secret: whatever form it has, whatever option it
//! stands in, whatever goes wrong with it, and whoever says it back to us.

use serde_json::{Value, json};

use crate::fleet::{Fleet, NODE, PASSWORD};
use crate::http::{Server, body};
use crate::mosquitto::{free_port, wait_until};
use crate::signing::base64;

const CONTROL: &str =
    "mode = \"signed\"\npublish_active = true\nhome_assistant = true\nmetrics_interval = \"1 s\"\n";

/// Secrets by their names on the gateway: each is to be found nowhere else.
const SECRETS: [(&str, &str); 8] = [
    ("hook", "hook-5d1c4be7"),
    ("bearer", "bearer-91ab33f0"),
    ("header", "header-7be20c55"),
    ("user", "user-66c1d2f4"),
    ("password", "password-0f3e9a81"),
    ("topic", "topic-b7d40e26"),
    ("client", "client-2c9e8d17"),
    ("query", "query-48ab70ee"),
];
/// What a variable of the environment of the service stands for.
const VARIABLE: &str = "variable-3f7a1c9d";
/// Literals of the local file.
const LITERAL: &str = "literal-c05f8e62";
const IN_URL: &str = "in-url-77d3b1a9";

/// What would tell one of them: as it is, and as it goes over the line.
fn telling() -> Vec<String> {
    let mut all: Vec<String> = SECRETS
        .iter()
        .map(|(_, value)| (*value).to_owned())
        .collect();
    all.extend([LITERAL, IN_URL, PASSWORD].map(str::to_owned));
    all.push(login());
    all
}

fn secret(name: &str) -> &'static str {
    let found = SECRETS.iter().find(|(known, _)| *known == name);
    found.unwrap().1
}

/// User and password as HTTP has them.
fn login() -> String {
    let (user, password) = (secret("user"), secret("password"));
    base64(format!("{user}:{password}").as_bytes())
}

/// Fails when anything that the node has said holds what tells a secret.
fn is_discreet(fleet: &Fleet) {
    let mut said: Vec<(String, String)> = Vec::new();
    for message in fleet.observer.since(fleet.observer.beginning()) {
        let is_operators =
            message.topic.ends_with("/desired") || message.topic.contains("/request/");
        if !is_operators {
            let text = String::from_utf8_lossy(&message.payload).into_owned();
            said.push((message.topic, text));
        }
    }
    said.extend(fleet.site.logs().map(|log| ("the log".to_owned(), log)));
    let mut leaks = Vec::new();
    for word in telling().into_iter().chain([VARIABLE.to_owned()]) {
        for (place, text) in &said {
            // A variable is no secret to whoever may read the log.
            if word == VARIABLE && place == "the log" {
                continue;
            }
            for (at, _) in text.match_indices(&word) {
                let from = (0..=at.saturating_sub(120))
                    .rev()
                    .find(|at| text.is_char_boundary(*at));
                let shown: String = text[from.unwrap_or(0)..].chars().take(200).collect();
                leaks.push(format!("{place} says {word}: …{shown}…"));
            }
        }
    }
    leaks.dedup();
    assert!(
        leaks.is_empty(),
        "{} leaks:\n{}",
        leaks.len(),
        leaks.join("\n")
    );
    assert!(said.len() > 30, "only {} messages", said.len());
}

fn with_secrets(control: &str) -> Fleet {
    let mut fleet = Fleet::with(control);
    for (name, value) in SECRETS {
        fleet.secret(name, value);
    }
    let variable = ("SITE_TOKEN", VARIABLE.to_owned());
    fleet.site.environment.push(variable);
    fleet
}

/// Streams in whose options secrets stand, and which do not get on.
fn streams(servers: &[Server; 3], data: &str, folder: &str) -> String {
    let [hook, basic, polled] = servers.each_ref().map(|server| server.url(""));
    let nobody = free_port();
    format!(
        "CREATE STREAM Hook (n BIGINT) WITH ('type'='sink', 'extension'='http', \
         'http.url'='{hook}/${{secret:hook}}?key=${{secret:query}}', \
         'http.bearer'='${{secret:bearer}}', 'http.header.X-Key'='${{secret:header}}', \
         'http.retry.min'='20 ms', 'http.retry.max'='50 ms');\n\
         CREATE STREAM Basic (n BIGINT) WITH ('type'='sink', 'extension'='http', \
         'http.url'='{basic}/basic?at=${{SITE_TOKEN}}', 'http.username'='${{secret:user}}', \
         'http.password'='${{secret:password}}', 'http.retry.min'='20 ms', \
         'http.retry.max'='50 ms');\n\
         CREATE STREAM Gone (n BIGINT) WITH ('type'='sink', 'extension'='http', \
         'http.url'='http://127.0.0.1:{nobody}/${{secret:hook}}?key=${{secret:query}}', \
         'http.retry.max'='50 ms');\n\
         CREATE STREAM Polled (n BIGINT) WITH ('type'='source', 'extension'='http_poll', \
         'format'='json', 'http.url'='{polled}/${{secret:hook}}', 'http.interval'='100 ms', \
         'http.retry.min'='20 ms', 'http.retry.max'='50 ms', \
         'http.bearer'='${{secret:bearer}}');\n\
         CREATE STREAM Far (n BIGINT) WITH ('type'='sink', 'extension'='mqtt', \
         'mqtt.broker'='{data}', 'mqtt.topic'='far/${{secret:topic}}/${{SITE_TOKEN}}', \
         'mqtt.username'='${{secret:user}}', 'mqtt.password'='${{secret:password}}', \
         'mqtt.client_id'='${{secret:client}}');\n\
         CREATE STREAM Kept (n BIGINT) WITH ('type'='sink', 'extension'='file', \
         'file.path'='{folder}/kept.json');\n\
         CREATE STREAM Read (n BIGINT) WITH ('type'='source', 'extension'='file', \
         'format'='json', 'file.path'='{folder}/read.json');\n\
         CREATE STREAM Near (n BIGINT) WITH ('type'='source', 'extension'='mqtt', \
         'format'='json', 'mqtt.broker'='{data}', 'mqtt.topic'='near/${{secret:topic}}');\n\
         INSERT INTO Hook SELECT n FROM Readings;\n\
         INSERT INTO Basic SELECT n FROM Readings;\n\
         INSERT INTO Gone SELECT n FROM Readings;\n\
         INSERT INTO Far SELECT n FROM Readings;\n\
         INSERT INTO Kept SELECT n FROM Readings;\n\
         INSERT INTO Kept SELECT n FROM Read;\n\
         INSERT INTO Kept SELECT n FROM Polled;\n\
         INSERT INTO Kept SELECT n FROM Near;\n"
    )
}

/// A server that says back these secrets, which it was told, in every way.
fn echoing(names: &[&str]) -> Server {
    let all: Vec<String> = names.iter().map(|name| secret(name).to_owned()).collect();
    let login = match names.contains(&"password") {
        true => login(),
        false => String::new(),
    };
    let all = format!("{} Basic {login}", all.join(", "));
    let statuses = [
        "400 Bad",
        "401 Who",
        "403 No",
        "404 None",
        "422 What",
        "500 Oh",
        "503 Later",
    ];
    let mut acts = Vec::new();
    for _ in 0..40 {
        acts.extend(statuses.map(|status| body(status, &all)));
        let to = format!("http://elsewhere/{}?again", secret(names[0]));
        acts.push(body(&format!("302 Moved\r\nLocation: {to}"), ""));
        acts.push(body(&format!("418 {all}"), ""));
    }
    Server::new(acts)
}

fn ask_all(fleet: &Fleet, content: &str) {
    for (verb, args) in [
        ("ping", json!({"echo": 1})),
        ("status", json!({})),
        ("config.get", json!({})),
        ("config.diff", json!({ "content": content })),
        ("config.validate", json!({ "content": content })),
        ("query.list", json!({})),
        ("query.explain", json!({})),
        ("diagnostics", json!({})),
        ("outbox.status", json!({})),
    ] {
        let answer = fleet.request(verb, &args);
        assert_eq!(answer["status"], "ok", "{verb}: {answer}");
    }
}

#[test]
fn whatever_goes_wrong_with_a_secret_nobody_is_told_it() {
    let mut fleet = with_secrets(CONTROL);
    let servers = [
        echoing(&["hook", "query", "bearer", "header"]),
        echoing(&["password"]),
        echoing(&["hook", "bearer"]),
    ];
    let folder = fleet.site.path("").display().to_string();
    let data = fleet.data.url();
    let more = streams(&servers, &data, &folder);
    let literal = format!(
        "[streams.Far]\nmqtt.will.topic = \"gone\"\nmqtt.will.payload = \"${{SITE_TOKEN}}\"\n\
         [streams.Alerts]\nmqtt.username = \"a\"\nmqtt.password = \"{LITERAL}\"\n\
         [streams.Gone]\nhttp.header.X-Key = \"{LITERAL}\"\n[log]\nlevel = \"trace\"\n"
    );
    fleet.configure(1, &format!("{CONTROL}{literal}"));
    let sql = format!("{}{more}", fleet.sql(1));
    std::fs::write(fleet.site.path("app.sql"), sql).unwrap();
    fleet.start();
    let flow = fleet.flow();
    flow.goes_on();
    let level = json!({"level": "trace", "target": "eventflux"});
    assert_eq!(fleet.request("log.level", &level)["status"], "ok");
    ask_all(&fleet, &fleet.document(2));
    // The same as a document, in which secrets are references.
    let content = fleet.document_with(2, &more);
    ask_all(&fleet, &content);
    let reported = fleet.apply(&fleet.signed(1, &content));
    assert!(reported["status"].is_string(), "{reported:#}");
    ask_all(&fleet, &fleet.document(3));
    ask_all(&fleet, &content.replace("SITE_TOKEN", "OTHER:x"));
    for server in &servers {
        let mut asked = 0;
        wait_until("the server has spoken", || {
            asked += server.rest().len();
            asked > 20
        });
    }
    let from = fleet.observer.now();
    fleet.said("metrics", from, "metrics", |_| true);
    flow.goes_on();
    flow.finish();
    fleet.site.stop();
    is_discreet(&fleet);
}

/// Options in which a secret cannot be used, and what is said of it.
#[test]
fn a_secret_in_the_wrong_place_is_not_quoted() {
    let mut fleet = with_secrets(CONTROL);
    fleet.start();
    let data = fleet.data.url();
    let mut rev = 0;
    for secret in ["hook", "password"] {
        let secret = format!("${{secret:{secret}}}");
        for (name, kind) in [
            ("mqtt.broker", "mqtt"),
            ("mqtt.topic", "mqtt"),
            ("mqtt.qos", "mqtt"),
            ("mqtt.version", "mqtt"),
            ("mqtt.tls.ca", "mqtt"),
            ("mqtt.tls.key", "mqtt"),
            ("mqtt.nonsense", "mqtt"),
            ("http.url", "http"),
            ("http.method", "http"),
            ("http.timeout", "http"),
            ("http.header.X y", "http"),
            ("file.path", "file"),
            ("outbox.bytes_max", "mqtt"),
            ("error.dlq.stream", "mqtt"),
            ("active", "mqtt"),
            ("json.template", "mqtt"),
        ] {
            for value in [&secret, "${SITE_TOKEN}", &format!("a+#{secret}\\n{{{{")] {
                let more = format!(
                    "CREATE STREAM Odd (n BIGINT) WITH ('type'='sink', 'extension'='{kind}', \
                     '{name}'='{value}');\nINSERT INTO Odd SELECT n FROM Readings;\n"
                );
                let content = fleet.document_with(2, &more);
                let args = json!({ "content": content });
                fleet.request("config.validate", &args);
                fleet.request("config.diff", &args);
            }
        }
        for (table, key) in [
            ("application", "name"),
            ("limits", "memory_max"),
            ("log", "level"),
            ("turn", "rows_max"),
            ("store", "path"),
            ("control", "mqtt.broker"),
            ("control", "root"),
            ("application", "state_policy"),
            ("streams.Alerts", "mqtt.tls.server_name"),
        ] {
            for value in [&secret, "${SITE_TOKEN}"] {
                let sql = fleet.sql(2);
                let head = "[application]\n";
                let own = format!("{key} = \"{value}\"\n");
                let content = match table {
                    "application" => format!("{head}{own}sql = \"\"\"\n{sql}\"\"\"\n"),
                    _ => format!(
                        "{head}name = \"test\"\nsql = \"\"\"\n{sql}\"\"\"\n[{table}]\n{own}"
                    ),
                };
                rev += 1;
                let mut asked = crate::signing::envelope(rev, &content);
                asked["mode"] = json!("validate");
                fleet.apply(&fleet.key.signed(NODE, asked));
            }
        }
    }
    let _: Value = fleet.request("status", &json!({}));
    let _ = data;
    fleet.site.stop();
    is_discreet(&fleet);
}

/// What stands in a local file as it is, where it is refused: the log shows the place.
#[test]
fn a_literal_in_a_url_is_not_shown() {
    let mut fleet = with_secrets(CONTROL);
    let sql = format!(
        "{}CREATE STREAM Hook (n BIGINT) WITH ('type'='sink', 'extension'='http', \
         'http.url'='https://me:{IN_URL}@127.0.0.1/x');\n\
         CREATE STREAM Far (n BIGINT) WITH ('type'='sink', 'extension'='mqtt', \
         'mqtt.broker'='mqtt://me:{IN_URL}@127.0.0.1', 'mqtt.topic'='x');\n\
         CREATE STREAM Bare (n BIGINT) WITH ('type'='sink', 'extension'='mqtt', \
         'mqtt.broker'='me:{IN_URL}@127.0.0.1', 'mqtt.topic'='x');\n",
        fleet.sql(1)
    );
    fleet.start();
    for verb in ["config.diff", "config.validate"] {
        let content = format!("[application]\nname = \"test\"\nsql = \"\"\"\n{sql}\"\"\"\n");
        fleet.request(verb, &json!({ "content": content }));
    }
    std::fs::write(fleet.site.path("app.sql"), &sql).unwrap();
    fleet.site.signal("HUP");
    fleet.site.wait_for("the old one goes on");
    for verb in [
        "status",
        "config.get",
        "diagnostics",
        "query.list",
        "outbox.status",
    ] {
        fleet.request(verb, &json!({}));
    }
    for _ in 0..25 {
        fleet.request("status", &json!({}));
    }
    fleet.site.stop();
    is_discreet(&fleet);
}

//! Configurations that all count the same and differ in much else.

use crate::random::Random;

/// A configuration that marks its rows with `c`; what else is in it is drawn.
pub(crate) fn sql(data: &str, c: u64, random: &mut Random) -> String {
    let keep_alive = 20 + random.below(3);
    let linger = 20 + random.below(3);
    let mut queries = [
        format!("INSERT INTO Alerts SELECT n, {c} AS c FROM Readings;\n"),
        "INSERT INTO Counts SELECT n, count(*) AS k FROM Readings;\n".to_owned(),
        extra(data, random),
    ];
    let first = random.index(queries.len());
    queries.rotate_left(first);
    format!(
        "CREATE STREAM Readings (n BIGINT) WITH ('type'='source', 'extension'='mqtt', \
         'format'='json', 'mqtt.broker'='{data}', 'mqtt.topic'='in/+', \
         'mqtt.keep_alive'='{keep_alive} s');\n\
         CREATE STREAM Alerts (n BIGINT, c BIGINT) WITH ('type'='sink', 'extension'='mqtt', \
         'mqtt.broker'='{data}', 'mqtt.topic'='out', 'mqtt.keep_alive'='{linger} s');\n\
         CREATE STREAM Counts (n BIGINT, k BIGINT) WITH ('type'='sink', 'extension'='mqtt', \
         'mqtt.broker'='{data}', 'mqtt.topic'='counts');\n{}",
        queries.concat()
    )
}

/// What one configuration has and another has not.
fn extra(data: &str, random: &mut Random) -> String {
    let threshold = random.below(1_000);
    let sink = format!(
        "CREATE STREAM Rare (n BIGINT, k BIGINT) WITH ('type'='sink', 'extension'='mqtt', \
         'mqtt.broker'='{data}', 'mqtt.topic'='rare');\n"
    );
    match random.below(4) {
        0 => String::new(),
        1 => format!(
            "{sink}INSERT INTO Rare SELECT n, count(*) AS k FROM Readings \
             WHERE n % 1000 = {threshold};\n"
        ),
        2 => format!(
            "{sink}CREATE STREAM Middle (n BIGINT);\n\
             INSERT INTO Middle SELECT n FROM Readings WHERE n % 1000 > {threshold};\n\
             INSERT INTO Rare SELECT n, count(*) AS k FROM Middle WHERE n % 1000 = 999;\n"
        ),
        _ => format!(
            "{sink}CREATE STREAM Others (n BIGINT) WITH ('type'='source', 'extension'='mqtt', \
             'format'='json', 'mqtt.broker'='{data}', 'mqtt.topic'='others/{threshold}', \
             'required'='true');\n\
             INSERT INTO Rare SELECT n, 0 AS k FROM Others;\n"
        ),
    }
}

/// A source that finds nobody, and has to.
pub(crate) fn nobody(port: u16) -> String {
    format!(
        "CREATE STREAM Far (n BIGINT) WITH ('type'='source', 'extension'='mqtt', \
         'format'='json', 'mqtt.broker'='mqtt://127.0.0.1:{port}', 'mqtt.topic'='far', \
         'required'='true');\n\
         INSERT INTO Alerts SELECT n, n AS c FROM Far;\n"
    )
}

/// The document of some SQL.
pub(crate) fn document(sql: &str) -> String {
    format!("[application]\nname = \"test\"\nsql = \"\"\"\n{sql}\"\"\"\n")
}

/// What is no SQL, or no configuration.
pub(crate) fn faulty(sql: &str, random: &mut Random) -> String {
    match random.below(5) {
        0 => document(&format!(
            "{sql}INSERT INTO Alerts SELECT m FROM Readings;\n"
        )),
        1 => document(&format!("{sql}INSERT INTO Alerts SELECT n FROM Nowhere;\n")),
        2 => document(&sql.replace("mqtt.topic", "mqtt.topik")),
        3 => format!("{}[control]\nmode = \"off\"\n", document(sql)),
        _ => "[application\n".to_owned(),
    }
}

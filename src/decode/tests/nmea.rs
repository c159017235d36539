use super::{check, fault};

const RMC: &str = "$GPRMC,225446.250,A,4916.45,N,12311.12,W,000.5,054.7,191194,020.3,E*71";

#[test]
fn ready_columns() {
    check(
        "nmea",
        &[],
        "talker STRING, sentence STRING, time TIMESTAMP, latitude DOUBLE, longitude DOUBLE, \
         speed_knots DOUBLE, course DOUBLE",
        &[(
            RMC,
            "{\"talker\":\"GP\",\"sentence\":\"RMC\",\"time\":785285686250,\
             \"latitude\":49.274166666666666,\"longitude\":-123.18533333333333,\
             \"speed_knots\":0.5,\"course\":54.7}",
        )],
    );
    check(
        "nmea",
        &[],
        "sentence STRING, time_of_day_ms INT, satellites INT, altitude_m DOUBLE, hdop FLOAT, \
         wind_angle DOUBLE, wind_unit STRING, heading_true DOUBLE, speed_kmh DOUBLE",
        &[
            (
                "$GPGGA,123519,4807.038,N,01131.000,E,1,08,0.9,545.4,M,46.9,M,,*47",
                "{\"sentence\":\"GGA\",\"time_of_day_ms\":45319000,\"satellites\":8,\
                 \"altitude_m\":545.4,\"hdop\":0.9,\"wind_angle\":null,\"wind_unit\":null,\
                 \"heading_true\":null,\"speed_kmh\":null}",
            ),
            (
                "\\s:x*00\\$WIMWV,214.8,R,0.1,K,A*28\r\n$GPHDT,274.07,T*03\n\
                 $GPVTG,054.7,T,034.4,M,005.5,N,010.2,K*48\n",
                "{\"sentence\":\"MWV\",\"time_of_day_ms\":null,\"satellites\":null,\
                 \"altitude_m\":null,\"hdop\":null,\"wind_angle\":214.8,\"wind_unit\":\"K\",\
                 \"heading_true\":null,\"speed_kmh\":null}\n\
                 {\"sentence\":\"HDT\",\"time_of_day_ms\":null,\"satellites\":null,\
                 \"altitude_m\":null,\"hdop\":null,\"wind_angle\":null,\"wind_unit\":null,\
                 \"heading_true\":274.07,\"speed_kmh\":null}\n\
                 {\"sentence\":\"VTG\",\"time_of_day_ms\":null,\"satellites\":null,\
                 \"altitude_m\":null,\"hdop\":null,\"wind_angle\":null,\"wind_unit\":null,\
                 \"heading_true\":null,\"speed_kmh\":10.2}",
            ),
        ],
    );
}

#[test]
fn fields_by_number_and_filters() {
    check(
        "nmea",
        &[
            ("nmea.mapping.t", "talker"),
            ("nmea.mapping.any", "2"),
            ("nmea.mapping.one", "rmc.7"),
            ("nmea.sentences", "RMC, GRME"),
        ],
        "t STRING, any STRING, one DOUBLE",
        &[
            (RMC, r#"{"t":"GP","any":"A","one":0.5}"#),
            (
                "$PGRME,15.0,M,45.0,M*48",
                r#"{"t":"P","any":"M","one":null}"#,
            ),
            ("$GPGGA,123519", ""),
            ("$GPRMC", r#"{"t":"GP","any":null,"one":null}"#),
            ("!AIRMC,,,x", r#"{"t":"AI","any":null,"one":null}"#),
        ],
    );
}

const COLUMNS: &str = "latitude DOUBLE, time TIMESTAMP, time_of_day_ms INT";

#[test]
fn what_is_no_sentence() {
    let long = format!("$GP{}", "x".repeat(2_000));
    check(
        "nmea",
        &[],
        COLUMNS,
        &[
            ("", "empty: no bytes"),
            (
                "GPRMC",
                "malformed: line 1: a sentence begins with `$` or `!`",
            ),
            ("\\x", "malformed: line 1: a tag block that does not end"),
            (
                "$GPHDT,274.07,T*04",
                "malformed: line 1: the checksum is `04` and should be `03`",
            ),
            (
                "$GPHDT,274.07,T*3",
                "malformed: line 1: the checksum is `3` and should be `03`",
            ),
            (
                "$GPHDT,274.07,T*+3",
                "malformed: line 1: the checksum is `+3` and should be `03`",
            ),
            (&long, "too_large: line 1: a sentence of 2003 bytes"),
            (
                "$GPGLL,4960.0,N",
                "wrong_type: line 1: column `latitude` is DOUBLE, found a latitude that is not \
                 ddmm.mmm and N or S",
            ),
            (
                "$GPGLL,9100.0,N",
                "wrong_type: line 1: column `latitude` is DOUBLE, found a latitude that is not \
                 ddmm.mmm and N or S",
            ),
            (
                "$GPGLL,7,N",
                "wrong_type: line 1: column `latitude` is DOUBLE, found a latitude that is not \
                 ddmm.mmm and N or S",
            ),
            (
                "$GPZDA,000000,31,02,2024",
                "wrong_type: line 1: column `time` is TIMESTAMP, found a date that is none",
            ),
            (
                "$GPGGA,246000",
                "wrong_type: line 1: column `time_of_day_ms` is INT, found a time that is not \
                 hhmmss.sss",
            ),
            (
                "$GPZDA,235960.5,31,12,2016,00,00",
                "{\"latitude\":null,\"time\":1483228799500,\"time_of_day_ms\":86399500}",
            ),
        ],
    );
}

#[test]
fn checksums_as_they_are_asked_for() {
    check(
        "nmea",
        &[("nmea.checksum", "required")],
        COLUMNS,
        &[(
            "$GPHDT,1,T",
            "malformed: line 1: a sentence without a checksum",
        )],
    );
    let nothing = r#"{"latitude":null,"time":null,"time_of_day_ms":null}"#;
    check(
        "nmea",
        &[
            ("nmea.checksum", "ignore"),
            ("nmea.ignore_parse_errors", "true"),
        ],
        COLUMNS,
        &[("$GPHDT,274.07,T*04", nothing), ("$GPGLL,x,N,,,x", nothing)],
    );
}

#[test]
fn options_that_cannot_be_used() {
    let unknown = "nmea.mapping.a: `a` is neither a field's number, such as `3` or `RMC.7`, nor \
         one of talker, sentence, altitude_m, course,";
    assert!(fault("nmea", &[], "a INT").starts_with(unknown));
    let table = [
        (
            "RMC.0",
            "nmea.mapping.a: `RMC.0` is neither a field's number",
        ),
        (
            "latitude",
            "nmea.mapping.a: `latitude` needs a column that is DOUBLE or FLOAT, not INT",
        ),
        (
            "time",
            "nmea.mapping.a: `time` needs a column that is TIMESTAMP, not INT",
        ),
        (
            "talker",
            "nmea.mapping.a: `talker` needs a column that is STRING, not INT",
        ),
    ];
    for (written, expected) in table {
        let fault = fault("nmea", &[("nmea.mapping.a", written)], "a INT");
        assert!(fault.starts_with(expected), "{fault}");
    }
}

use std::cell::Cell;
use std::fs;

use super::*;
use crate::config::options::{Layer, OptionValue, Options};
use crate::event::{Field, Schema, Type, cbor};

type Written = &'static [(&'static str, &'static str)];

thread_local! {
    static WALL: Cell<i64> = const { Cell::new(0) };
}

fn wall() -> Timestamp {
    Timestamp(WALL.get())
}

fn checked(format: &str, written: &[(&str, &str)]) -> Result<File, OptionFault> {
    let mut options = Options::default();
    for (name, value) in written {
        let value = match value.parse() {
            Ok(number) => OptionValue::Integer(number),
            Err(_) => OptionValue::Text((*value).to_owned()),
        };
        options.set(name, value, Layer::Sql);
    }
    let field = Field {
        name: "payload".to_owned(),
        ty: Type::Bytes,
    };
    File::new(&Definition {
        stream: "S",
        extension: "file",
        format,
        options: &options,
        schema: &Schema::new(vec![field]),
        client_id: "",
    })
}

/// A folder, and what a sink writes into it.
struct Place {
    folder: tempfile::TempDir,
    written: Vec<(&'static str, &'static str)>,
    format: &'static str,
}

impl Place {
    fn new(format: &'static str, written: &[(&'static str, &'static str)]) -> Place {
        Place {
            folder: tempfile::tempdir().unwrap(),
            written: written.to_vec(),
            format,
        }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("new/out")
    }

    /// The sink as it starts.
    fn files(&self) -> Files {
        let path = self.path();
        let mut written = self.written.clone();
        written.push((PATH, path.to_str().unwrap()));
        Files::new(checked(self.format, &written).unwrap().settings, wall)
    }

    /// What lies there, by name.
    fn found(&self) -> Vec<(String, Vec<u8>)> {
        let mut found: Vec<_> = fs::read_dir(self.path().parent().unwrap())
            .unwrap()
            .map(|entry| {
                let path = entry.unwrap().path();
                let name = path.file_name().unwrap().to_str().unwrap().to_owned();
                (name, fs::read(path).unwrap())
            })
            .collect();
        found.sort();
        found
    }

    fn texts(&self) -> Vec<(String, String)> {
        let found = self.found().into_iter();
        found
            .map(|(name, bytes)| (name, String::from_utf8(bytes).unwrap()))
            .collect()
    }
}

fn batch(head: &str, records: &str) -> Batch {
    Batch {
        head: head.as_bytes().to_vec(),
        records: records.as_bytes().to_vec(),
    }
}

fn write(files: &mut Files, records: &str) {
    files.write(&batch("", records)).unwrap();
    files.tidy();
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    let expected = expected.iter();
    expected
        .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
        .collect()
}

#[test]
fn full_files_are_set_aside_and_the_oldest_deleted() {
    let place = Place::new("json", &[(ROTATE_BYTES, "8"), (KEEP, "2")]);
    let mut files = place.files();
    for line in ["1..\n", "2..\n", "3..\n", "larger than a file\n", "5..\n"] {
        write(&mut files, line);
    }
    assert_eq!(
        place.texts(),
        pairs(&[
            ("out", "5..\n"),
            ("out.000002", "3..\n"),
            ("out.000003", "larger than a file\n"),
        ])
    );
    // Another start goes on with the same file and the same numbers.
    drop(files);
    let mut files = place.files();
    write(&mut files, "6..\n");
    write(&mut files, "7..\n");
    assert_eq!(
        place.texts(),
        pairs(&[
            ("out", "7..\n"),
            ("out.000003", "larger than a file\n"),
            ("out.000004", "5..\n6..\n"),
        ])
    );
}

#[test]
fn a_file_is_set_aside_when_its_time_is_over() {
    let place = Place::new("json", &[(ROTATE_EVERY, "1000")]);
    let mut files = place.files();
    for (at, line) in [(10_000, "a\n"), (10_999, "b\n"), (11_000, "c\n")] {
        WALL.set(at);
        write(&mut files, line);
    }
    let expected = [("out", "c\n"), ("out.000001", "a\nb\n")];
    assert_eq!(place.texts(), pairs(&expected));
    // The file itself says when it was written last.
    drop(files);
    let mut files = place.files();
    WALL.set(i64::MAX);
    write(&mut files, "d\n");
    assert_eq!(place.texts()[0], ("out".to_owned(), "d\n".to_owned()));
}

#[test]
fn files_that_were_set_aside_are_compressed() {
    let place = Place::new("json", &[(ROTATE_BYTES, "1"), (COMPRESS, "zstd")]);
    let mut files = place.files();
    for line in ["1\n", "2\n", "3\n"] {
        write(&mut files, line);
    }
    // As a crash leaves them: one not compressed yet, one half done.
    let beside = |ending: &str| place.path().with_file_name(format!("out.{ending}"));
    fs::write(beside("000003"), "left\n").unwrap();
    fs::write(beside("000003.zst.tmp"), "half").unwrap();
    write(&mut files, "5\n");
    let found = place.found();
    let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        [
            "out",
            "out.000001.zst",
            "out.000002.zst",
            "out.000003.zst",
            "out.000004.zst"
        ]
    );
    let unpacked = found[1..].iter().map(|(_, bytes)| {
        String::from_utf8(zstd::bulk::decompress(bytes, 1 << 20).unwrap()).unwrap()
    });
    assert_eq!(
        unpacked.collect::<Vec<_>>(),
        ["1\n", "2\n", "left\n", "3\n"]
    );
}

#[test]
fn what_an_interrupted_write_has_left_is_removed() {
    let place = Place::new("json", &[]);
    write(&mut place.files(), "{\"a\":1}\n");
    // At every byte of the next line, and with zero bytes in place of some.
    let line = b"{\"a\":2}\n";
    for end in 0..line.len() {
        let mut torn = fs::read(place.path()).unwrap();
        let whole = torn.len();
        torn.extend_from_slice(&line[..end]);
        fs::write(place.path(), &torn).unwrap();
        write(&mut place.files(), "");
        assert_eq!(fs::read(place.path()).unwrap(), torn[..whole], "{end}");
        torn.truncate(whole);
        torn.extend_from_slice(&line.map(|byte| if byte == b'2' { 0 } else { byte }));
        fs::write(place.path(), &torn).unwrap();
        write(&mut place.files(), "");
        assert_eq!(fs::read(place.path()).unwrap(), torn[..whole]);
    }
    write(&mut place.files(), "{\"a\":3}\n");
    let expected = [("out", "{\"a\":1}\n{\"a\":3}\n")];
    assert_eq!(place.texts(), pairs(&expected));
}

#[test]
fn the_same_of_cbor() {
    let place = Place::new("cbor", &[]);
    let record = |number: i64| cbor::encode(&std::collections::BTreeMap::from([("a", number)]));
    let (first, second) = (record(1).unwrap(), record(70_000).unwrap());
    let batch = |records: &[u8]| Batch {
        head: Vec::new(),
        records: records.to_vec(),
    };
    place.files().write(&batch(&first)).unwrap();
    for end in 0..second.len() {
        let torn = [first.as_slice(), &second[..end]].concat();
        fs::write(place.path(), torn).unwrap();
        place.files().write(&batch(&[])).unwrap();
        assert_eq!(fs::read(place.path()).unwrap(), first, "{end}");
    }
    fs::write(place.path(), [first.as_slice(), &[0; 9]].concat()).unwrap();
    place.files().write(&batch(&second)).unwrap();
    assert_eq!(fs::read(place.path()).unwrap(), [first, second].concat());
}

#[test]
fn a_file_has_one_header_and_one_only() {
    let place = Place::new("csv", &[]);
    let mut files = place.files();
    files.write(&batch("a,b\n", "1,2\n")).unwrap();
    files.write(&batch("a,b\n", "3,4\n")).unwrap();
    drop(files);
    let mut files = place.files();
    files.write(&batch("a,b\n", "5,6\n")).unwrap();
    files.write(&batch("a,c\n", "7,8\n")).unwrap();
    drop(files);
    let mut files = place.files();
    files.write(&batch("a,d\n", "9,9\n")).unwrap();
    let expected = [
        ("out", "a,d\n9,9\n"),
        ("out.000001", "a,b\n1,2\n3,4\n5,6\n"),
        ("out.000002", "a,c\n7,8\n"),
    ];
    assert_eq!(place.texts(), pairs(&expected));
}

/// Nothing of it is cut off, whatever it looks like to the new format.
#[test]
fn a_file_of_another_format_is_set_aside_as_it_is() {
    let map = cbor::encode(&std::collections::BTreeMap::from([("a", "1\n")])).unwrap();
    let text = b"{\"a\":\"5\\\" pipe\"}\n{\"a\":1}\n".as_slice();
    for (before, format, head, records) in [
        (text, "cbor", "", map.as_slice()),
        (text, "csv", "a\n", b"1\n".as_slice()),
        (&map, "json", "", b"{\"a\":2}\n"),
        (&map, "csv", "a\n", b"1\n"),
    ] {
        let place = Place::new(format, &[]);
        fs::create_dir_all(place.path().parent().unwrap()).unwrap();
        fs::write(place.path(), before).unwrap();
        let batch = Batch {
            head: head.as_bytes().to_vec(),
            records: records.to_vec(),
        };
        place.files().write(&batch).unwrap();
        place.files().write(&batch).unwrap();
        let now = [head.as_bytes(), records, records].concat();
        let expected = [("out", now), ("out.000001", before.to_vec())];
        let expected = expected.map(|(name, bytes)| (name.to_owned(), bytes));
        assert_eq!(place.found(), expected, "{format}");
    }
}

#[test]
fn a_file_that_somebody_moves_is_begun_anew() {
    let place = Place::new("json", &[]);
    let mut files = place.files();
    write(&mut files, "1\n");
    fs::rename(place.path(), place.path().with_file_name("moved")).unwrap();
    write(&mut files, "2\n");
    fs::remove_file(place.path()).unwrap();
    write(&mut files, "3\n");
    let expected = [("moved", "1\n"), ("out", "3\n")];
    assert_eq!(place.texts(), pairs(&expected));
}

#[test]
fn two_sinks_do_not_write_one_file() {
    let place = Place::new("json", &[]);
    let mut files = place.files();
    write(&mut files, "1\n");
    let Err(Failure::Later(why)) = place.files().write(&batch("", "2\n")) else {
        panic!("it was written");
    };
    assert!(
        why.ends_with("another sink or program holds it locked"),
        "{why}"
    );
    drop(files);
    write(&mut place.files(), "2\n");
    assert_eq!(place.texts(), pairs(&[("out", "1\n2\n")]));
}

#[test]
fn faults() {
    let table: [(&str, Written, &str); 3] = [
        (
            "raw",
            &[(PATH, "/a/b")],
            "format: in a file nobody could tell one BYTES value from the next: use json, csv or \
             cbor",
        ),
        (
            "json",
            &[(PATH, "/a/b/")],
            "file.path: it must name a file, not a folder",
        ),
        (
            "json",
            &[(PATH, "..")],
            "file.path: it must name a file, not a folder",
        ),
    ];
    for (format, written, expected) in table {
        assert_eq!(checked(format, written).unwrap_err().to_string(), expected);
    }
}

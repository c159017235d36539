//! Files in a folder are written, renamed, cut and copied, with a stop at any place: every line is
//! taken once.

use std::fs::{self, OpenOptions};
use std::io::Write;

use super::*;

/// A folder, and somebody who follows the files in it.
struct Site {
    folder: tempfile::TempDir,
    manner: Manner,
    follower: Follower,
    /// What the log would have, and whether that is of a line.
    log: Vec<(DeliveryMark, bool)>,
    taken: Vec<String>,
    notes: Vec<Note>,
    missing: Option<String>,
    is_over: bool,
    now: Instant,
}

impl Site {
    fn new(name: &str, change: impl FnOnce(&mut Manner)) -> Site {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        let mut manner = Manner {
            names: Names::new(path.to_str().unwrap()).unwrap(),
            is_replay: false,
            from_end: false,
            header_lines: 0,
            line_bytes_max: 1_000,
            rotate_wait: Duration::from_secs(5),
        };
        change(&mut manner);
        Site {
            folder,
            follower: Follower::new(manner.clone(), &[]),
            manner,
            log: Vec::new(),
            taken: Vec::new(),
            notes: Vec::new(),
            missing: None,
            is_over: false,
            now: Instant::now(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn append(&self, name: &str, text: &str) {
        let mut options = OpenOptions::new();
        let file = options.create(true).append(true).open(self.path(name));
        file.unwrap().write_all(text.as_bytes()).unwrap();
    }

    fn rename(&self, from: &str, to: &str) {
        fs::rename(self.path(from), self.path(to)).unwrap();
    }

    /// Reads everything that is there; the lines that this took.
    fn read(&mut self) -> Vec<String> {
        let known = self.taken.len();
        let mut look = true;
        loop {
            let step = self.follower.step(look, self.now);
            look = false;
            self.log
                .extend(step.marks.iter().map(|mark| (*mark, false)));
            let mut begin = 0;
            for line in &step.lines {
                let text = std::str::from_utf8(&step.bytes[begin..line.end]).unwrap();
                begin = line.end;
                self.taken.push(text.to_owned());
                self.log.push((line.mark, true));
            }
            self.notes.extend(step.notes);
            self.missing = step.missing;
            self.is_over = step.is_over;
            if !step.has_more {
                return self.taken[known..].to_vec();
            }
        }
    }

    /// The process begins anew, with what the log has of it: all but its end with so many lines.
    fn restart(&mut self, lost: usize) {
        let left = self.taken.len() - lost;
        self.taken.truncate(left);
        while self.log.iter().filter(|(_, is_line)| *is_line).count() > left {
            self.log.pop();
        }
        let marks: Vec<DeliveryMark> = self.log.iter().map(|(mark, _)| *mark).collect();
        self.follower = Follower::new(self.manner.clone(), &marks);
    }
}

fn plain(name: &str) -> Site {
    Site::new(name, |_| {})
}

#[test]
fn lines_are_taken_as_they_are_finished() {
    let mut site = plain("a.log");
    assert!(site.read().is_empty());
    assert!(
        site.missing
            .as_ref()
            .is_some_and(|why| why.contains("there is no file"))
    );
    site.append("a.log", "1\n2");
    assert_eq!(site.read(), ["1"]);
    assert_eq!(site.missing, None);
    site.append("a.log", "2\n\n3\n");
    assert_eq!(site.read(), ["22", "3"]);
    site.restart(1);
    assert_eq!(site.read(), ["3"]);
    site.restart(3);
    site.append("a.log", "4\n");
    assert_eq!(site.read(), ["1", "22", "3", "4"]);
}

#[test]
fn a_renamed_file_is_read_to_its_end_first() {
    let mut site = plain("a.log");
    site.append("a.log", "1\n2\n");
    site.read();
    site.append("a.log", "3\n4");
    site.rename("a.log", "a.log.1");
    site.append("a.log", "6\n");
    assert_eq!(site.read(), ["3", "6"]);
    // Who writes may not have noticed yet.
    site.append("a.log.1", "\n5\n");
    assert_eq!(site.read(), ["4", "5"]);
    site.now += Duration::from_secs(4);
    assert!(site.read().is_empty());
    site.append("a.log.1", "late\nhalf");
    assert_eq!(site.read(), ["late"]);
    site.now += Duration::from_secs(5);
    site.read();
    let path = site.path("a.log");
    let incomplete = Note::Incomplete(path.clone(), 4);
    assert!(site.notes.contains(&incomplete), "{:?}", site.notes);
    assert!(site.notes.contains(&Note::LetGo(path)), "{:?}", site.notes);
    site.append("a.log.1", "\nnobody reads this\n");
    assert!(site.read().is_empty());
}

#[test]
fn a_file_that_gets_its_name_back_is_read_on() {
    for is_restarted in [false, true] {
        let mut site = plain("a.log");
        site.append("a.log", "1\n2\n");
        site.read();
        // As when the disk goes on which it lies.
        site.rename("a.log", "away");
        site.read();
        site.now += Duration::from_secs(6);
        site.read();
        assert!(site.notes.contains(&Note::LetGo(site.path("a.log"))));
        site.append("away", "3\n");
        if is_restarted {
            site.restart(0);
        }
        site.rename("away", "a.log");
        assert_eq!(site.read(), ["3"], "{is_restarted}");
        // Another that takes its name is another, whatever it holds.
        fs::remove_file(site.path("a.log")).unwrap();
        site.read();
        site.now += Duration::from_secs(6);
        site.read();
        site.append("a.log", "1\n2\n3\n");
        assert_eq!(site.read(), ["1", "2", "3"], "{is_restarted}");
    }
}

#[test]
fn what_was_rotated_meanwhile_is_read_on() {
    for (pattern, lost) in [("a.log", 0), ("a.log", 2), ("a.log*", 0), ("a.log*", 2)] {
        let mut site = plain(pattern);
        site.append("a.log", "1\n2\n3\n");
        site.read();
        site.restart(lost);
        site.append("a.log", "4\n");
        site.rename("a.log", "a.log.1");
        site.append("a.log", "5\n");
        site.read();
        assert_eq!(site.taken, ["1", "2", "3", "4", "5"], "{pattern}");
        site.restart(1);
        site.read();
        assert_eq!(site.taken, ["1", "2", "3", "4", "5"], "{pattern}");
    }
}

#[test]
fn a_file_that_is_cut_is_read_from_its_beginning() {
    let mut site = plain("a.log");
    let long = "x".repeat(200);
    site.append("a.log", &format!("{long}\n1\n"));
    site.read();
    fs::write(site.path("a.log"), "2\n").unwrap();
    assert_eq!(site.read(), ["2"]);
    // It may be longer than it was when it is looked at again.
    fs::write(site.path("a.log"), "3\n4\n5\n").unwrap();
    assert_eq!(site.read(), ["3", "4", "5"]);
    let anew = Note::Anew(site.path("a.log"));
    assert_eq!(site.notes.iter().filter(|note| **note == anew).count(), 2);
    site.restart(2);
    assert_eq!(site.read(), ["4", "5"]);
    // While we were away, too.
    site.restart(0);
    fs::write(site.path("a.log"), "6\n").unwrap();
    assert_eq!(site.read(), ["6"]);
    site.restart(0);
    fs::write(site.path("a.log"), "7\n8\n").unwrap();
    assert_eq!(site.read(), ["7", "8"]);
}

#[test]
fn what_was_copied_and_cut_meanwhile_is_read_on_in_the_copy() {
    let mut site = plain("a.log*");
    let long = "x".repeat(200);
    site.append("a.log", &format!("{long}\n1\n"));
    site.read();
    site.restart(1);
    site.append("a.log", "2\n");
    fs::copy(site.path("a.log"), site.path("a.log.1")).unwrap();
    fs::write(site.path("a.log"), "3\n").unwrap();
    let mut read = site.read();
    read.sort();
    assert_eq!(read, ["1", "2", "3"]);
}

#[test]
fn what_has_another_inode_is_known_by_its_content() {
    let mut site = plain("a.log");
    let long = "x".repeat(200);
    site.append("a.log", &format!("{long}\n1\n"));
    site.read();
    site.restart(0);
    fs::copy(site.path("a.log"), site.path("b")).unwrap();
    site.rename("b", "a.log");
    site.append("a.log", "2\n");
    assert_eq!(site.read(), ["2"]);
    site.restart(1);
    assert_eq!(site.read(), ["2"]);
}

#[test]
fn many_files_are_followed() {
    let mut site = plain("p-*.csv");
    site.append("other.csv", "no\n");
    site.append("p-0.csv.gz", "no\n");
    fs::create_dir(site.path("p-x.csv")).unwrap();
    let name = |number: usize| format!("p-{number}.csv");
    for number in 0..100 {
        site.append(&name(number), &format!("{number}\n"));
    }
    assert_eq!(site.read().len(), 100);
    let refused = |note: &&Note| matches!(note, Note::Unreadable(..));
    site.read();
    assert_eq!(site.notes.iter().filter(refused).count(), 1);
    site.restart(50);
    fs::remove_file(site.path(&name(7))).unwrap();
    site.append(&name(8), "more\n");
    site.read();
    let mut expected: Vec<String> = (0..100).map(|number| number.to_string()).collect();
    expected.push("more".to_owned());
    expected.sort();
    site.taken.sort();
    // What was in the deleted file and not taken is gone.
    if site.taken.len() == 100 {
        expected.retain(|line| line != "7");
    }
    assert_eq!(site.taken, expected);
}

#[test]
fn more_files_than_that_leave_out_the_oldest() {
    let mut site = plain("*");
    for number in 0..FILES_MAX + 3 {
        site.append(&format!("f{number:03}"), "x\n");
    }
    assert_eq!(site.read().len(), FILES_MAX);
    site.read();
    let too_many = site
        .notes
        .iter()
        .filter(|note| **note == Note::TooMany(3))
        .count();
    assert_eq!(too_many, 1);
    assert_eq!(site.follower.marks().len(), 2 * FILES_MAX);
    site.restart(0);
    assert!(site.read().is_empty());
}

#[test]
fn what_was_there_before_can_be_left_out() {
    let mut site = Site::new("*.log", |manner| manner.from_end = true);
    site.append("a.log", "old\nha");
    site.append("e.log", "");
    assert!(site.read().is_empty());
    site.append("a.log", "lf\n");
    site.append("b.log", "new\n");
    site.append("e.log", "e\n");
    let mut read = site.read();
    read.sort();
    assert_eq!(read, ["e", "half", "new"]);
    site.restart(3);
    site.append("c.log", "while away\n");
    let mut read = site.read();
    read.sort();
    assert_eq!(read, ["e", "half", "new", "while away"]);
}

#[test]
fn headers_are_left_out_of_every_file() {
    let mut site = Site::new("*.csv", |manner| manner.header_lines = 2);
    site.append("a.csv", "title\nx");
    assert!(site.read().is_empty());
    site.restart(0);
    site.append("a.csv", ",y\n1,2\n");
    assert_eq!(site.read(), ["1,2"]);
    site.append("b.csv", "title\nx,y\n3,4\n");
    site.append("a.csv", "5,6\n");
    let mut read = site.read();
    read.sort();
    assert_eq!(read, ["3,4", "5,6"]);
    site.restart(0);
    site.append("a.csv", "7,8\n");
    assert_eq!(site.read(), ["7,8"]);
}

#[test]
fn a_replay_reads_once_in_the_order_of_names() {
    let mut site = Site::new("*.csv", |manner| manner.is_replay = true);
    site.read();
    assert!(!site.is_over && site.missing.is_some());
    site.append("b.csv", "3\n4");
    site.append("a.csv", "1\n2\n");
    site.append("c.csv", "");
    site.read();
    assert_eq!(site.taken, ["1", "2", "3", "4"]);
    assert!(site.is_over);
    for lost in 0..4 {
        site.restart(lost);
        site.read();
        assert_eq!(site.taken, ["1", "2", "3", "4"]);
        assert!(site.is_over);
    }
}

#[test]
fn much_is_read_in_steps() {
    let mut site = plain("a.log");
    let numbers: Vec<String> = (0..20_000).map(|number| number.to_string()).collect();
    site.append("a.log", &(numbers.join("\n") + "\n"));
    let step = site.follower.step(true, site.now);
    assert!(step.has_more && step.lines.len() <= STEP_LINES_MAX);
    site.follower = Follower::new(site.manner.clone(), &[]);
    assert_eq!(site.read(), numbers);
    let too_long = "y".repeat(200_000);
    site.append("a.log", &format!("{too_long}\nz\n"));
    let read = site.read();
    assert_eq!(read[0].len(), 1_000);
    assert_eq!(read[1], "z");
}

/// The misfortunes that a file can have, by number. `cut` is how many lines were taken when it was
/// cut: those are nowhere else.
fn befalls(site: &mut Site, what: u64, number: &mut u64, cut: &mut usize) {
    let mut line = || {
        *number += 1;
        format!("line {number} of those that are written here, and long enough to be told apart")
    };
    match what {
        0..=3 => site.append("a.log", &format!("{}\n{}\n", line(), line())),
        4 => {
            let line = line();
            let (first, second) = line.split_at(9);
            site.append("a.log", first);
            site.read();
            site.append("a.log", &format!("{second}\n"));
        }
        5 => {
            let line = line();
            let _ = fs::rename(site.path("a.log"), site.path(&format!("a.log.{number}")));
            site.append("a.log", &format!("{line}\n"));
        }
        6 => {
            site.read();
            site.restart((site.taken.len() - *cut).min(3));
        }
        7 => {
            // Copied and cut: nothing is lost only if everything was read.
            site.read();
            fs::write(site.path("a.log"), "").unwrap();
            *cut = site.taken.len();
        }
        _ => _ = site.read(),
    }
}

#[test]
fn whatever_happens_every_line_is_taken_once() {
    for seed in 0..60_u64 {
        let mut site = plain("a.log*");
        let mut random = crate::source::redelivery::digest(b"seed", &seed.to_le_bytes());
        let (mut number, mut cut) = (0, 0);
        for step in 0..60_u64 {
            random = crate::source::redelivery::digest(&random.to_le_bytes(), &step.to_le_bytes());
            befalls(&mut site, random % 10, &mut number, &mut cut);
        }
        site.read();
        let mut taken: Vec<u64> = site
            .taken
            .iter()
            .map(|line| line.split(' ').nth(1).unwrap().parse().unwrap())
            .collect();
        taken.sort_unstable();
        assert_eq!(taken, (1..=number).collect::<Vec<_>>(), "seed {seed}");
    }
}

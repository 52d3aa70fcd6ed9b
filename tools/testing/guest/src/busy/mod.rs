// SPDX-License-Identifier: GPL-2.0

//! A busy program whose every promise is written down, for tests that cut the power.
//!
//! Several threads work, each in a folder of its own, and each keeps a journal outside of the disk: a line before every
//! change (what may be found from now on) and a line after every fsync that came back (what must be found from now on).
//! A check compares what is found after a crash with the journals.
//!
//! A line reads `I KIND NAME NUMBER...` for an intent and `A KIND NAME NUMBER...` for an acknowledgement:
//!
//! - `grow NAME ID LENGTH`: a file that only grows;
//! - `whole NAME ID LENGTH`: a file is written from its beginning to its end;
//! - `over NAME ID FIRST COUNT GENERATION`: records of such a file are overwritten;
//! - `cut NAME ID LENGTH`: a file gets longer or shorter;
//! - `replace NAME ID`: a whole file takes the place of another one by a rename;
//! - `attribute NAME ID GENERATION`: an extended attribute of a file changes;
//! - `gone NAME`: a name is removed;
//! - `crowd NAME FIRST END`: a directory holds the names of the numbers from `FIRST` up to `END`.

mod check;
mod promise;
mod record;
mod work;

pub use check::check;
pub use check::Findings;
pub use work::overwrite_alone;
pub use work::work;

use anyhow::Context;
use std::fs::File;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;

/// How many threads work on a disk.
pub const THREADS: u64 = 3;
/// The attribute that changes.
const ATTRIBUTE: &str = "user.generation";
/// What a file is called that is about to take another one's place.
const TEMPORARY: &str = "temporary-";

/// Where a thread writes down what it promises. What was noted is safe from the crash when `note` returns.
pub trait Notes {
    /// Notes one line.
    fn note(&mut self, line: &str) -> anyhow::Result<()>;
}

/// Notes in a file outside of the guest.
struct FileNotes {
    file: File,
}

impl FileNotes {
    /// The notes of the thread `number` in the folder `journals`.
    fn open(journals: &Path, number: u64) -> anyhow::Result<FileNotes> {
        std::fs::create_dir_all(journals)?;
        let path = journal_path(journals, number);
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .with_context(|| format!("opening {}", path.display()))?;
        Ok(FileNotes { file })
    }
}

impl Notes for FileNotes {
    fn note(&mut self, line: &str) -> anyhow::Result<()> {
        self.file
            .write_all(format!("{line}\n").as_bytes())
            .context("noting a promise")
    }
}

/// What the threads noted in the folder `journals`. A line that the crash cut in two is not there.
fn read_notes(journals: &Path) -> anyhow::Result<Vec<Vec<String>>> {
    let mut all = Vec::new();
    for number in 0..THREADS {
        let path = journal_path(journals, number);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            // The power went before the thread began.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
        };
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        all.push(whole.lines().map(String::from).collect());
    }
    Ok(all)
}

/// Works in `dir` until the power goes, with the notes in files in the folder `journals`.
pub fn work_for_ever(dir: &Path, journals: &Path, seed: u64) -> anyhow::Result<()> {
    work(
        dir,
        &|number| Ok(Box::new(FileNotes::open(journals, number)?)),
        seed,
        &|_| false,
    )
}

/// [`check`]s `dir` against what the threads noted in the folder `journals`.
pub fn check_against_files(dir: &Path, journals: &Path, zeros: bool) -> anyhow::Result<Findings> {
    check(dir, &read_notes(journals)?, zeros)
}

/// Where the thread `number` works, below `dir`.
fn thread_dir(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("thread{number}"))
}

/// Where the thread `number` keeps its journal.
fn journal_path(journals: &Path, number: u64) -> PathBuf {
    journals.join(format!("thread{number}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;
    use std::sync::atomic::AtomicBool;
    use std::sync::atomic::Ordering;

    #[test]
    fn what_was_acknowledged_must_be_there() {
        let dir = std::env::temp_dir().join(format!("ferrofs-busy-{}", std::process::id()));
        let journals = dir.join("journals");
        let files = dir.join("files");
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let run = scope.spawn(|| {
                work(
                    &files,
                    &|number| Ok(Box::new(FileNotes::open(&journals, number)?)),
                    7,
                    &|_| stop.load(Ordering::Relaxed),
                )
            });
            std::thread::sleep(std::time::Duration::from_millis(900));
            stop.store(true, Ordering::Relaxed);
            run.join().unwrap().unwrap();
        });
        let notes = read_notes(&journals).unwrap();
        let found = check_against_files(&files, &journals, false).unwrap();
        assert!(found.acknowledged > 10 && found.files > 3, "{found:?}");
        // One wrong byte, or one lost file, is seen.
        let victim = std::fs::read_dir(files.join("thread0"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .find(|path| {
                let name = path.file_name().unwrap().to_str().unwrap();
                name.starts_with("over")
            })
            .unwrap();
        let file = OpenOptions::new().write(true).open(&victim).unwrap();
        file.write_all_at(&[0; 5], 3).unwrap();
        assert!(check(&files, &notes, false).is_err());
        std::fs::remove_file(victim).unwrap();
        assert!(check(&files, &notes, false).is_err());
        std::fs::remove_dir_all(dir).unwrap();
    }
}

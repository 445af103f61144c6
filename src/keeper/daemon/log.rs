//! Where the keeper's log lines go: to standard error by way of a thread of their own. A reader that does not read must
//! not make the keeper wait; lines that find the queue full are dropped and counted.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use tracing_subscriber::fmt::MakeWriter;

/// Lines that may wait.
const LINES_MAX: usize = 1024;

/// Writes lines without waiting.
#[derive(Clone, Debug)]
pub struct Lines {
    queue: SyncSender<Vec<u8>>,
    dropped: Arc<AtomicU64>,
}

impl Lines {
    /// Starts the thread that writes to `sink`, standard error as a rule.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn start(sink: impl Write + Send + 'static) -> io::Result<Self> {
        let (queue, lines) = sync_channel(LINES_MAX);
        let dropped = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&dropped);
        thread::Builder::new().name("log".into()).spawn(move || write_all(sink, &lines, &counted))?;
        Ok(Self { queue, dropped })
    }
}

fn write_all(mut sink: impl Write, lines: &Receiver<Vec<u8>>, dropped: &AtomicU64) {
    while let Ok(line) = lines.recv() {
        let lost = dropped.swap(0, Ordering::Relaxed);
        // Nobody is left to be told that nobody reads.
        if lost > 0 {
            let _ = writeln!(sink, "{lost} lines were lost here because nobody read them in time");
        }
        let _ = sink.write_all(&line);
        let _ = sink.flush();
    }
}

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.queue.try_send(line.to_vec()).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Lets each write wait for a word, then passes it on.
    struct Slow {
        go: Receiver<()>,
        written: mpsc::Sender<String>,
    }

    impl Write for Slow {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            self.go.recv().map_err(io::Error::other)?;
            self.written.send(String::from_utf8_lossy(line).into_owned()).map_err(io::Error::other)?;
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_does_not_read_loses_lines_and_is_told_how_many() {
        let (let_go, go) = mpsc::channel();
        let (written, read) = mpsc::channel();
        let mut lines = Lines::start(Slow { go, written }).unwrap();
        // One line is with the writer or on its way, LINES_MAX wait, the rest is lost.
        for n in 0..LINES_MAX + 10 {
            lines.write_all(format!("{n}\n").as_bytes()).unwrap();
        }
        (0..LINES_MAX + 20).for_each(|_| let_go.send(()).unwrap());
        drop(lines);
        let all: String = read.iter().collect();
        let (kept, told): (Vec<&str>, Vec<&str>) = all.lines().partition(|line| line.parse::<usize>().is_ok());
        assert!(kept.len() >= LINES_MAX && kept[0] == "0", "{all}");
        let lost: usize = told.iter().map(|line| line.split(' ').next().unwrap().parse::<usize>().unwrap()).sum();
        assert_eq!(kept.len() + lost, LINES_MAX + 10, "each line is written or counted");
    }
}

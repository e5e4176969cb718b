//! Results as JSON lines for whoever connects to a Unix socket: from then on, all that come. Each client has
//! a queue of its own, so that a slow one loses its oldest lines and no others notice. What clients send is
//! nobody's business.

use std::fs::{self, Metadata, Permissions};
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::io::{AsyncWriteExt as _, Interest};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use super::lines::QUEUE_LINES;
use super::outlets::ResultQueue;
use super::queue::{Receiver, Sender, queue_counting};
use super::tally::Tally;

/// Clients at a time: each may hold as many lines as its queue.
const CLIENTS_MAX: usize = 16;
/// Who may connect: the owner and the group of the socket.
const MODE: u32 = 0o660;
/// Pause after the system has refused a connection, for want of file descriptors.
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// Time for clients to take what waits for them, at the end.
const END_WITHIN: Duration = Duration::from_secs(1);

type Line = Arc<[u8]>;

/// A socket that is listened at. Dropped, it is removed.
#[derive(Debug)]
pub(super) struct Socket {
    listener: tokio::net::UnixListener,
    runtime: Runtime,
    _file: SocketFile,
}

/// The socket in its folder.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    /// Device and inode: another process may have put its own there.
    identity: (u64, u64),
}

/// Those who are connected.
struct Clients {
    queues: Vec<Sender<Line>>,
    tasks: JoinSet<()>,
    tally: Arc<Tally>,
    /// Whether the log was told that there are too many.
    full: bool,
}

impl Socket {
    /// Listens. What a process has left at `path` that is gone is replaced.
    ///
    /// # Errors
    /// When something else is there, or another process listens there.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (listener, file) = listen(path)?;
        listener.set_nonblocking(true)?;
        let _in_runtime = runtime.enter();
        let listener = tokio::net::UnixListener::from_std(listener)?;
        Ok(Self {
            listener,
            runtime,
            _file: file,
        })
    }

    /// Hands results to all who are connected, until there are no more.
    pub(super) fn write(self, results: ResultQueue, tally: Arc<Tally>) {
        self.runtime.block_on(serve(&self.listener, results, tally));
    }
}

fn listen(path: &Path) -> io::Result<(UnixListener, SocketFile)> {
    match fs::symlink_metadata(path) {
        Ok(there) if !there.file_type().is_socket() => {
            return Err(io::Error::other("something that is no socket is there"));
        }
        Ok(_) => match UnixStream::connect(path) {
            Ok(_) => return Err(io::Error::other("another process listens there")),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
            Err(error) => return Err(error),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    // Made under another name, so that nobody connects before the permissions are right.
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&temporary)?;
    fs::set_permissions(&temporary, Permissions::from_mode(MODE))?;
    let identity = identity(&fs::symlink_metadata(&temporary)?);
    fs::rename(&temporary, path)?;
    let path = path.to_owned();
    Ok((listener, SocketFile { path, identity }))
}

fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let there = fs::symlink_metadata(&self.path);
        if there.is_ok_and(|there| identity(&there) == self.identity) {
            drop(fs::remove_file(&self.path));
        }
    }
}

async fn serve(listener: &tokio::net::UnixListener, mut results: ResultQueue, tally: Arc<Tally>) {
    let mut clients = Clients {
        queues: Vec::new(),
        tasks: JoinSet::new(),
        tally,
        full: false,
    };
    loop {
        tokio::select! {
            client = accept(listener) => clients.admit(client),
            result = results.next() => match result {
                Some(result) => clients.hand_out(|line| result.write_line(line)),
                None => break,
            },
            Some(_) = clients.tasks.join_next() => {}
        }
    }
    clients.end().await;
}

/// The next client.
async fn accept(listener: &tokio::net::UnixListener) -> tokio::net::UnixStream {
    loop {
        match listener.accept().await {
            Ok((client, _)) => return client,
            Err(error) => {
                tracing::warn!(%error, "a client of the socket cannot connect");
                tokio::time::sleep(ACCEPT_AGAIN_AFTER).await;
            }
        }
    }
}

impl Clients {
    fn admit(&mut self, client: tokio::net::UnixStream) {
        self.queues.retain(|queue| !queue.is_left());
        let output = self.tally.name();
        if self.queues.len() == CLIENTS_MAX {
            if !std::mem::replace(&mut self.full, true) {
                tracing::warn!(output, CLIENTS_MAX, "too many clients: more are sent away");
            }
            return;
        }
        self.full = false;
        let (queue, lines) = queue_counting(QUEUE_LINES, self.tally.lost_counter());
        self.queues.push(queue);
        tracing::debug!(
            output,
            clients = self.queues.len(),
            "a client has connected"
        );
        self.tasks
            .spawn(feed(client, lines, Arc::clone(&self.tally)));
    }

    /// Makes a line, if anybody wants it, and has it sent.
    fn hand_out(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.queues.retain(|queue| !queue.is_left());
        if self.queues.is_empty() {
            return;
        }
        let mut line = Vec::new();
        write(&mut line);
        let line: Line = line.into();
        for queue in &self.queues {
            queue.send(Arc::clone(&line));
        }
    }

    /// Lets clients take what waits for them, for a while.
    async fn end(mut self) {
        for queue in &self.queues {
            queue.close();
        }
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(END_WITHIN, all).await.is_err() {
            let left = self.queues.iter().filter(|queue| !queue.is_left());
            self.tally
                .add_lost(left.map(|queue| queue.waiting() as u64).sum());
        }
    }
}

/// Sends lines to a client until there are no more, or it has gone.
async fn feed(mut client: tokio::net::UnixStream, mut lines: Receiver<Line>, tally: Arc<Tally>) {
    loop {
        let line = tokio::select! {
            line = lines.next() => line,
            () = gone(&client) => return,
        };
        let Some(line) = line else {
            return ignore(&client);
        };
        if client.write_all(&line).await.is_err() {
            return;
        }
        tally.add_written(1);
    }
}

/// Takes in what a client has sent: what is left there would be an error on its side when this one ends.
fn ignore(client: &tokio::net::UnixStream) {
    while client.try_read(&mut [0; 512]).is_ok_and(|read| read > 0) {}
}

/// Waits until a client has gone. One that has merely said all that it wants to say may still read.
async fn gone(client: &tokio::net::UnixStream) {
    let mut ignored = [0; 512];
    while client.ready(Interest::READABLE).await.is_ok() {
        match client.try_read(&mut ignored) {
            Ok(0) if has_hung_up(client) => return,
            Ok(0) => std::future::pending().await,
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return,
            _ => {}
        }
    }
}

fn has_hung_up(client: &tokio::net::UnixStream) -> bool {
    let mut asked = [PollFd::new(client.as_fd(), PollFlags::empty())];
    let answered = poll(&mut asked, PollTimeout::ZERO).is_ok();
    answered && (asked[0].revents()).is_some_and(|seen| seen.contains(PollFlags::POLLHUP))
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Read as _, Write as _};
    use std::net::Shutdown;

    use super::super::result::tests::result;
    use super::*;

    /// A socket that is served.
    struct Rig {
        folder: tempfile::TempDir,
        results: Option<Sender<Arc<super::super::FrameResult>>>,
        tally: Arc<Tally>,
        thread: Option<std::thread::JoinHandle<()>>,
    }

    impl Rig {
        fn start() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let socket = Socket::open(&folder.path().join("s")).unwrap();
            let tally = Tally::new("socket");
            let (sender, results) = queue_counting(1024, tally.lost_counter());
            let counts = Arc::clone(&tally);
            let thread = std::thread::spawn(move || socket.write(results, counts));
            Self {
                folder,
                results: Some(sender),
                tally,
                thread: Some(thread),
            }
        }

        fn path(&self) -> PathBuf {
            self.folder.path().join("s")
        }

        fn connect(&self) -> UnixStream {
            UnixStream::connect(self.path()).unwrap()
        }

        fn send(&self, frame: u64) {
            let result = Arc::new(result(frame, &["car"]));
            self.results.as_ref().unwrap().send(result);
        }

        /// Sends results until a client has one: from then on it gets all. The first that was not sent
        /// yet, and what comes.
        fn greet(&self, client: UnixStream) -> (u64, BufReader<UnixStream>) {
            client.set_nonblocking(true).unwrap();
            let mut client = BufReader::new(client);
            let (mut frame, mut line) = (0, String::new());
            while !line.ends_with('\n') {
                self.send(frame);
                frame += 1;
                std::thread::yield_now();
                // An error says that there is nothing yet.
                drop(client.read_line(&mut line));
            }
            client.get_ref().set_nonblocking(false).unwrap();
            (frame, client)
        }

        fn end(&mut self) {
            self.results = None;
            self.thread.take().unwrap().join().unwrap();
        }
    }

    #[test]
    fn one_that_is_slow_loses_its_oldest_lines_and_the_others_none() {
        let mut rig = Rig::start();
        let _slow = rig.connect();
        let (first, fast) = rig.greet(rig.connect());
        let mut lines = fast.lines().map(Result::unwrap);
        let mut frame = || {
            let line: serde_json::Value = serde_json::from_str(&lines.next().unwrap()).unwrap();
            line["frame"].as_u64().unwrap()
        };
        // Others were sent before it was greeted.
        rig.send(first);
        while frame() != first {}
        // More than fits the slow one's queue and the system's buffer, and never more at a time than fits
        // the queue of one that reads.
        for chunk in 0..40 {
            let frames = first + 1 + chunk * 200..first + 1 + (chunk + 1) * 200;
            frames.clone().for_each(|frame| rig.send(frame));
            assert!(
                frames.clone().all(|expected| frame() == expected),
                "{frames:?}"
            );
        }
        assert!(rig.tally.lost() > 1000, "{}", rig.tally.lost());
        rig.end();
        let (written, lost) = (rig.tally.written(), rig.tally.lost());
        assert!(written >= 8000 && lost >= 2000, "{written} {lost}");
        assert!(!rig.path().exists());
    }

    #[test]
    fn those_who_go_make_room_and_those_who_only_listen_stay() {
        let mut rig = Rig::start();
        let clients: Vec<_> = (1..CLIENTS_MAX).map(|_| rig.connect()).collect();
        let (_, mut listener) = rig.greet(rig.connect());
        // One more is sent away.
        let mut late = rig.connect();
        assert_eq!(late.read(&mut [0]).unwrap(), 0);
        // One that says that it will say nothing more is not one that goes.
        listener.get_mut().write_all(b"hello").unwrap();
        listener.get_mut().shutdown(Shutdown::Write).unwrap();
        let listener = std::thread::spawn(move || listener.lines().last().unwrap().unwrap());
        drop(clients);
        loop {
            let mut another = rig.connect();
            another.set_nonblocking(true).unwrap();
            rig.send(7);
            let mut byte = [0];
            let answer = loop {
                match another.read(&mut byte) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        rig.send(7);
                        std::thread::yield_now();
                    }
                    answer => break answer,
                }
            };
            // Those before may not have been seen to go yet, and then it is sent away.
            if answer.is_ok_and(|read| read == 1) {
                break;
            }
        }
        rig.send(99);
        rig.end();
        let last = listener.join().unwrap();
        assert!(last.contains("\"frame\":99,"), "{last}");
    }

    #[test]
    fn what_a_dead_process_has_left_is_replaced_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        // Whoever ends without removing it.
        drop(UnixListener::bind(&path).unwrap());
        let socket = Socket::open(&path).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, MODE);
        let error = Socket::open(&path).unwrap_err();
        assert!(error.to_string().contains("another process"), "{error}");
        drop(socket);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        fs::write(&path, "a letter").unwrap();
        let error = Socket::open(&path).unwrap_err();
        assert!(error.to_string().contains("no socket"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "a letter");
    }
}

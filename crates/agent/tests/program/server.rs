//! A small HTTP server on loopback: files of a folder, whole or from a byte on, and a place to report to. It can fail on purpose.

use std::{
    collections::HashMap,
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use boot_model::{report::Report, turn};

#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    state: Arc<State>,
}

struct State {
    root: PathBuf,
    requests: Mutex<Vec<String>>,
    /// First bytes of the answers that did not begin at 0.
    resumed: Mutex<Vec<u64>>,
    reports: Mutex<Vec<Report>>,
    /// So many connections are still to be closed without a word.
    closing: AtomicUsize,
    /// So many answers of more than a few kilobytes are still to be cut in the middle.
    cutting: AtomicUsize,
    /// So many requests for files are still to be answered with 503.
    busy: AtomicUsize,
    /// So many answers of that length are still to wait for their turn.
    queueing: AtomicUsize,
    /// True from when it has come.
    turn: (Mutex<bool>, Condvar),
    /// Milliseconds that the answer to a report takes.
    thinking: AtomicU64,
    /// What is asked for below this path gets no answer.
    dead: Mutex<Option<String>>,
}

impl Server {
    pub(crate) fn start(root: PathBuf) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let state = Arc::new(State {
            root,
            requests: Mutex::default(),
            resumed: Mutex::default(),
            reports: Mutex::default(),
            closing: AtomicUsize::new(0),
            cutting: AtomicUsize::new(0),
            busy: AtomicUsize::new(0),
            queueing: AtomicUsize::new(0),
            turn: Default::default(),
            thinking: AtomicU64::new(0),
            dead: Mutex::default(),
        });
        let server = Self { address: listener.local_addr().unwrap(), state: Arc::clone(&state) };
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&state);
                std::thread::spawn(move || state.serve(&stream));
            }
        });
        server
    }

    pub(crate) fn close_connections(&self, count: usize) {
        self.state.closing.store(count, Ordering::SeqCst);
    }

    pub(crate) fn cut_answers(&self, count: usize) {
        self.state.cutting.store(count, Ordering::SeqCst);
    }

    pub(crate) fn refuse_for_now(&self, count: usize) {
        self.state.busy.store(count, Ordering::SeqCst);
    }

    /// Lets answers wait after their first morsel, until [`Server::serve_the_queue`].
    pub(crate) fn queue_answers(&self, count: usize) {
        self.state.queueing.store(count, Ordering::SeqCst);
    }

    pub(crate) fn serve_the_queue(&self) {
        *self.state.turn.0.lock().unwrap() = true;
        self.state.turn.1.notify_all();
    }

    /// From now on whoever asks for something below this path is hung up on.
    pub(crate) fn die_at(&self, path: &str) {
        *self.state.dead.lock().unwrap() = Some(path.to_owned());
    }

    /// Where answers began that did not begin at 0, since the last call.
    pub(crate) fn resumed(&self) -> Vec<u64> {
        std::mem::take(&mut *self.state.resumed.lock().unwrap())
    }

    pub(crate) fn think(&self, time: Duration) {
        self.state.thinking.store(time.as_millis() as u64, Ordering::SeqCst);
    }

    /// Paths asked for since the last call, without reports.
    pub(crate) fn requests(&self) -> Vec<String> {
        std::mem::take(&mut *self.state.requests.lock().unwrap())
    }

    /// Reports since the last call.
    pub(crate) fn reports(&self) -> Vec<Report> {
        std::mem::take(&mut *self.state.reports.lock().unwrap())
    }
}

impl State {
    fn serve(&self, stream: &TcpStream) {
        stream.set_nodelay(true).unwrap();
        let mut reader = BufReader::new(stream);
        if one_of(&self.closing) {
            return;
        }
        while let Some(Request { method, path, part, body }) = request(&mut reader) {
            if self.dead.lock().unwrap().as_ref().is_some_and(|dead| path.starts_with(dead)) {
                return;
            }
            if method != "POST" && one_of(&self.busy) {
                let answer = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nRetry-After: 0\r\n\r\n";
                if (&*stream).write_all(answer).is_err() {
                    return;
                }
                continue;
            }
            let answer = if method == "POST" {
                std::thread::sleep(Duration::from_millis(self.thinking.load(Ordering::SeqCst)));
                self.reports.lock().unwrap().push(serde_json::from_slice(&body).expect("a report"));
                Some(Vec::new())
            } else {
                self.requests.lock().unwrap().push(path.clone());
                fs::read(self.root.join(path.trim_start_matches('/'))).ok()
            };
            let status = match (&answer, part) {
                (None, _) => "404 Not Found",
                (Some(_), None) => "200 OK",
                (Some(_), Some(_)) => "206 Partial Content",
            };
            let mut content = answer.unwrap_or_default();
            let whole = content.len();
            let (from, to) = part.unwrap_or((0, None));
            content.truncate(to.map_or(whole, |to| to as usize + 1));
            content.drain(..(from as usize).min(content.len()));
            let mut head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n", content.len());
            if from > 0 {
                self.resumed.lock().unwrap().push(from);
                head += &format!("Content-Range: bytes {from}-{}/{whole}\r\n", from as usize + content.len() - 1);
            }
            let queued = method != "HEAD" && content.len() > 10_000 && one_of(&self.queueing);
            if queued {
                head += &format!("{}: {}\r\n", turn::HEADER, turn::LATER);
                let morsel: Vec<u8> = content.drain(..turn::MORSEL).collect();
                if (&*stream).write_all(&[format!("{head}\r\n").as_bytes(), &morsel].concat()).is_err() {
                    return;
                }
                drop(self.turn.1.wait_while(self.turn.0.lock().unwrap(), |came| !*came));
            }
            let mut bytes = if queued { Vec::new() } else { format!("{head}\r\n").into_bytes() };
            let cut = content.len() > 10_000 && one_of(&self.cutting);
            if method != "HEAD" {
                bytes.extend(if cut { &content[..content.len() / 2] } else { &content[..] });
            }
            if (&*stream).write_all(&bytes).is_err() || cut {
                return;
            }
        }
    }
}

fn one_of(count: &AtomicUsize) -> bool {
    count.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |count| count.checked_sub(1)).is_ok()
}

struct Request {
    method: String,
    path: String,
    /// The first byte asked for, and the last one.
    part: Option<(u64, Option<u64>)>,
    body: Vec<u8>,
}

fn request(reader: &mut BufReader<&TcpStream>) -> Option<Request> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
    let mut words = line.split_whitespace();
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let part = headers.get("range").and_then(|range| {
        let (from, to) = range.strip_prefix("bytes=")?.split_once('-')?;
        Some((from.parse().ok()?, to.parse().ok()))
    });
    Some(Request { method, path, part, body })
}

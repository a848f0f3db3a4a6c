use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::mpsc,
};

use super::*;

/// A server on loopback; `answer` gets the path that was asked for, and the connection.
fn serve(answer: impl Fn(&str, &mut TcpStream) + Clone + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, answer) = (stream.unwrap(), answer.clone());
            std::thread::spawn(move || {
                let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
                while let Some(request) = lines.next() {
                    lines.by_ref().find(String::is_empty);
                    answer(request.split(' ').nth(1).unwrap(), &mut stream);
                }
            });
        }
    });
    address
}

fn refuse(stream: &mut TcpStream, headers: &str) {
    let answer = format!("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n{headers}\r\n");
    stream.write_all(answer.as_bytes()).unwrap();
}

/// A server from which nothing has come for two hours.
fn silent_so_far(address: SocketAddr) -> Server {
    let mut server = Server::new(address, Duration::from_secs(60), 1);
    server.begun = Instant::now() - Duration::from_secs(7200);
    server
}

#[test]
fn a_server_that_names_a_time_is_not_given_up() {
    let (ask, asked) = mpsc::channel();
    let asked = std::sync::Arc::new(std::sync::Mutex::new(asked));
    (0..4).for_each(|_| ask.send(()).unwrap());
    let address = serve(move |_, stream| match asked.lock().unwrap().try_recv() {
        Ok(()) => refuse(stream, "Retry-After: 0\r\n"),
        Err(_) => stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc").unwrap(),
    });
    assert_eq!(silent_so_far(address).stream("nar/x", 3).read_all().unwrap(), b"abc");
    // A proxy whose server is gone.
    let address = serve(|_, stream| refuse(stream, ""));
    let gone = silent_so_far(address).stream("nar/x", 3).read_all();
    assert!(matches!(gone, Err(StreamError::Unreachable { .. })), "{gone:?}");
}

/// One stream has a place in the line, the other was told to come again in half a minute.
#[test]
fn a_stream_that_was_refused_comes_again_when_the_turn_does() {
    const LENGTH: u64 = 100_000;
    let content = || vec![7; LENGTH as usize];
    let (refused, was_refused) = mpsc::channel();
    let (was_refused, refusals) = (std::sync::Arc::new(std::sync::Mutex::new(was_refused)), AtomicUsize::new(0));
    let refusals = std::sync::Arc::new(refusals);
    let address = serve(move |path, stream| {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {LENGTH}\r\n");
        if path == "/waits" {
            stream.write_all(format!("{head}{}: {}\r\n\r\n", turn::HEADER, turn::LATER).as_bytes()).unwrap();
            stream.write_all(&content()[..turn::MORSEL]).unwrap();
            was_refused.lock().unwrap().recv().unwrap();
            stream.write_all(&content()[turn::MORSEL..]).unwrap();
        } else if refusals.fetch_add(1, Ordering::Relaxed) == 0 {
            refuse(stream, "Retry-After: 30\r\n");
            refused.send(()).unwrap();
        } else {
            stream.write_all(&[format!("{head}\r\n").as_bytes(), &content()].concat()).unwrap();
        }
    });
    let server = &Server::new(address, Duration::from_secs(60), 2);
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let [waits, comes_again] =
            ["waits", "refused"].map(|path| scope.spawn(move || server.stream(path, LENGTH).read_all().unwrap()));
        assert!(waits.join().unwrap() == content() && comes_again.join().unwrap() == content());
    });
    assert!(begun.elapsed() < Duration::from_secs(25), "it has slept for {:?}", begun.elapsed());
    assert!(!server.is_queued());
}

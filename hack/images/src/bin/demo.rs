//! The demo image's program: a small web server, and the client commands that a test needs inside a pod.
//!
//! `demo serve [--port 8080]` answers `/` with its host name; `demo get URL` fetches; `demo resolve NAME` asks the
//! system's resolver. Standard library only: the image carries little more than libc.
#![allow(clippy::print_stdout, reason = "a command-line program")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use nix::sys::signal::{SigSet, Signal};

/// A small web server and its tools.
#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    command: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Serve HTTP until TERM.
    Serve {
        /// Port to listen on.
        #[arg(long, default_value_t = 8080)]
        port: u16,
        /// Seconds to go on serving after TERM.
        #[arg(long, default_value_t = 0)]
        linger: u64,
    },
    /// Fetch a URL (plain HTTP) and print the body; the exit code tells whether the answer was 2xx.
    Get {
        /// http://host[:port]/path
        url: String,
        /// Seconds before giving up.
        #[arg(long, default_value_t = 5)]
        timeout: u64,
    },
    /// Print the addresses of a name, one a line.
    Resolve {
        /// The name.
        name: String,
    },
}

fn main() -> ExitCode {
    let outcome = match Args::parse().command {
        Verb::Serve { port, linger } => serve(port, Duration::from_secs(linger)),
        Verb::Get { url, timeout } => get(&url, Duration::from_secs(timeout)),
        Verb::Resolve { name } => resolve(&name),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Serves until TERM or INT. As a container's first process it gets no default signal action: it must ask.
fn serve(port: u16, linger: Duration) -> Result<()> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGINT);
    signals.thread_block().context("block signals")?;
    let listener = TcpListener::bind(("::", port))
        .or_else(|_| TcpListener::bind(("0.0.0.0", port)))
        .with_context(|| format!("listen on port {port}"))?;
    println!("listening on port {port}");
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || {
                if let Err(error) = answer(stream) {
                    eprintln!("demo: {error:#}");
                }
            });
        }
    });
    let signal = signals.wait().context("wait for a signal")?;
    println!("{signal} received, stopping");
    thread::sleep(linger);
    Ok(())
}

/// Answers one request and closes.
fn answer(mut stream: TcpStream) -> Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(30))).context("set a deadline")?;
    let peer = stream.peer_addr().context("read the client's address")?;
    let mut reader = BufReader::new(stream.try_clone().context("read the request")?);
    let mut line = String::new();
    reader.read_line(&mut line).context("read the request line")?;
    let mut length = 0;
    loop {
        let mut header = String::new();
        if reader.read_line(&mut header).context("read a header")? == 0 || header.trim().is_empty() {
            break;
        }
        if let Some((name, value)) = header.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().context("read content-length")?;
        }
    }
    let mut request_body = Vec::new();
    reader.take(length).read_to_end(&mut request_body).context("read the request's body")?;
    let path = line.split_whitespace().nth(1).unwrap_or("/");
    let (status, body) = respond(path, peer.ip().to_string(), request_body);
    println!("{peer} {} {status}", line.trim_end());
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).context("write the answer")?;
    stream.write_all(&body).context("write the answer")
}

/// The answer to a path: status line and body.
fn respond(path: &str, client: String, body: Vec<u8>) -> (&'static str, Vec<u8>) {
    match path.split('?').next().unwrap_or(path) {
        "/" | "/hostname" => ("200 OK", format!("{}\n", hostname()).into_bytes()),
        "/healthz" => ("200 OK", b"ok\n".to_vec()),
        "/client" => ("200 OK", format!("{client}\n").into_bytes()),
        "/echo" => ("200 OK", body),
        other => ("404 Not Found", format!("no {other} here\n").into_bytes()),
    }
}

fn hostname() -> String {
    nix::unistd::gethostname()
        .map_or_else(|_| "unknown".to_owned(), |name| name.to_string_lossy().into_owned())
}

fn get(url: &str, timeout: Duration) -> Result<()> {
    let rest = url.strip_prefix("http://").context("only http:// URLs")?;
    let (authority, path) = rest.split_once('/').map_or((rest, ""), |(host, path)| (host, path));
    let address = if authority.rsplit(']').next().is_some_and(|tail| tail.contains(':')) {
        authority.to_owned()
    } else {
        format!("{authority}:80")
    };
    let target = address
        .to_socket_addrs()
        .with_context(|| format!("resolve {authority}"))?
        .next()
        .with_context(|| format!("{authority} has no address"))?;
    let mut stream =
        TcpStream::connect_timeout(&target, timeout).with_context(|| format!("connect to {target}"))?;
    stream.set_read_timeout(Some(timeout)).context("set a deadline")?;
    write!(stream, "GET /{path} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n")
        .context("send")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).context("read the answer")?;
    let end = answer.windows(4).position(|it| it == b"\r\n\r\n").context("the answer has no header")?;
    std::io::stdout().write_all(&answer[end + 4..]).context("print")?;
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let status = head.split_whitespace().nth(1).unwrap_or_default().to_owned();
    if !status.starts_with('2') {
        bail!("status {status}");
    }
    Ok(())
}

fn resolve(name: &str) -> Result<()> {
    let mut addresses: Vec<String> = (name, 0)
        .to_socket_addrs()
        .with_context(|| format!("resolve {name}"))?
        .map(|it| it.ip().to_string())
        .collect();
    addresses.sort();
    addresses.dedup();
    for address in addresses {
        println!("{address}");
    }
    Ok(())
}

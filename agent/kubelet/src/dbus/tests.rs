//! Against the reference daemon.

use std::time::{Duration, Instant};

use super::testing::{Daemon, answer, next_call, signal};
use super::*;

#[test]
fn calls_signals_and_errors_over_a_real_bus() {
    let daemon = Daemon::start();
    let mut service = daemon.service("org.example.Clock");
    let socket = daemon.socket().to_owned();
    let caller = std::thread::spawn(move || {
        let mut bus = Bus::connect(&socket).unwrap();
        bus.subscribe("type='signal',interface='org.example.Clock',member='Struck'").unwrap();
        let call = |bus: &mut Bus, member: &str, body| {
            bus.call("org.example.Clock", "/clock", "org.example.Clock", member, body)
        };
        let (said, _) = call(&mut bus, "Ask", vec!["hour".into(), Value::U32(3)]).unwrap();
        assert_eq!(said, [Value::U64(1 << 33), Value::Variant(Box::new("noon".into()))]);
        let err = bus.call("org.example.Nobody", "/", "org.example.Nobody", "Ask", vec![]).unwrap_err();
        assert!(err.is("org.freedesktop.DBus.Error.ServiceUnknown"), "{err}");
        let struck = bus.signal(Some(Instant::now() + Duration::from_secs(20))).unwrap().unwrap();
        assert_eq!((struck.member.as_str(), struck.body), ("Struck", vec![Value::Bool(true)]));
        let none = bus.signal(Some(Instant::now() + Duration::from_millis(20))).unwrap();
        assert_eq!(none, None);
        // Somebody else ends the connection: the reader is told.
        bus.hangup().unwrap().now();
        assert!(matches!(bus.signal(None), Err(DbusError::Broken(_))));
    });
    let call = next_call(&mut service);
    assert_eq!((call.member.as_str(), &call.body[0]), ("Ask", &"hour".into()));
    // The signal comes before the answer: it is kept until somebody asks for it.
    signal(&mut service, "/clock", "org.example.Clock", "Struck", vec![Value::Bool(true)]);
    answer(&mut service, &call, vec![Value::U64(1 << 33), Value::Variant(Box::new("noon".into()))]);
    caller.join().unwrap();
}

#[test]
fn nobody_there_is_named() {
    let err = Bus::connect(std::path::Path::new("/nonexistent/bus")).err().unwrap();
    assert_eq!(err.to_string(), "connect to D-Bus at /nonexistent/bus");
}

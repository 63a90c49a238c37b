//! What an informer does next: pure, so that every break of the connection is a line in a table.

use crate::Backoff;
use std::time::Duration;

/// Where the informer stands.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum State<K> {
    /// Asking for a page; `seen` holds the pages before it.
    Listing { token: Option<String>, seen: Vec<K> },
    /// Following changes after `version`.
    Watching { version: String },
}

impl<K> State<K> {
    /// From nothing: the first page.
    pub(super) const fn start() -> Self {
        Self::Listing { token: None, seen: Vec::new() }
    }
}

/// What the server said, or did not.
#[derive(Debug)]
pub(super) enum Input<K> {
    /// One page of a list.
    Page { items: Vec<K>, token: Option<String>, version: String },
    /// A frame of the watch.
    Frame(Frame<K>),
    /// The watch ended without an error, after this time.
    Ended { lasted: Duration },
    /// The version or the continue token is too old.
    Gone,
    /// Any other failure.
    Failed,
}

/// One frame of a watch; an object that could not be decoded still moves the version.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame<K> {
    Upsert { object: K, version: String },
    Remove { object: K, version: String },
    Bookmark { version: String },
}

/// What is done to the store.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Effect<K> {
    Nothing,
    Replace(Vec<K>),
    Upsert(K),
    Remove(K),
}

/// The next state, the change of the store, and how long to wait before going on.
pub(super) struct Step<K> {
    pub(super) state: State<K>,
    pub(super) effect: Effect<K>,
    pub(super) pause: Duration,
}

/// A watch that lived this long was a working one: its end is no reason to slow down.
const WORKING: Duration = Duration::from_secs(5);

pub(super) fn step<K>(state: State<K>, input: Input<K>, backoff: &mut Backoff) -> Step<K> {
    match (state, input) {
        (State::Listing { mut seen, .. }, Input::Page { items, token, version }) => {
            seen.extend(items);
            match token {
                Some(token) => go(State::Listing { token: Some(token), seen }, Effect::Nothing),
                None => go(State::Watching { version }, Effect::Replace(seen)),
            }
        }
        // The list must be begun again: what was seen belongs to a version that is no more.
        (State::Listing { token, .. }, Input::Gone) => Step {
            state: State::start(),
            effect: Effect::Nothing,
            pause: if token.is_some() { Duration::ZERO } else { backoff.next_jittered() },
        },
        (state @ State::Listing { .. }, Input::Failed | Input::Ended { .. } | Input::Frame(_)) => {
            Step { state, effect: Effect::Nothing, pause: backoff.next_jittered() }
        }
        (State::Watching { .. }, Input::Frame(frame)) => {
            backoff.reset();
            let (effect, version) = match frame {
                Frame::Upsert { object, version } => (Effect::Upsert(object), version),
                Frame::Remove { object, version } => (Effect::Remove(object), version),
                Frame::Bookmark { version } => (Effect::Nothing, version),
            };
            go(State::Watching { version }, effect)
        }
        (state @ State::Watching { .. }, Input::Ended { lasted }) => {
            if lasted >= WORKING {
                backoff.reset();
                return go(state, Effect::Nothing);
            }
            Step { state, effect: Effect::Nothing, pause: backoff.next_jittered() }
        }
        // A pause even here: a server that forgets at once must not be listed in a loop.
        (State::Watching { .. }, Input::Gone) => {
            Step { state: State::start(), effect: Effect::Nothing, pause: backoff.next_jittered() }
        }
        (state @ State::Watching { .. }, Input::Failed | Input::Page { .. }) => {
            Step { state, effect: Effect::Nothing, pause: backoff.next_jittered() }
        }
    }
}

const fn go<K>(state: State<K>, effect: Effect<K>) -> Step<K> {
    Step { state, effect, pause: Duration::ZERO }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(token: Option<&str>, seen: &[u8]) -> State<u8> {
        State::Listing { token: token.map(Into::into), seen: seen.to_vec() }
    }
    fn watching(version: &str) -> State<u8> {
        State::Watching { version: version.into() }
    }
    fn page(items: &[u8], token: Option<&str>) -> Input<u8> {
        Input::Page { items: items.to_vec(), token: token.map(Into::into), version: "7".into() }
    }
    fn upsert(object: u8, version: &str) -> Input<u8> {
        Input::Frame(Frame::Upsert { object, version: version.into() })
    }

    fn check(from: State<u8>, input: Input<u8>, to: &State<u8>, effect: &Effect<u8>, pauses: bool) {
        let label = format!("{from:?} + {input:?}");
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(10));
        let got = step(from, input, &mut backoff);
        assert_eq!(&got.state, to, "{label}");
        assert_eq!(&got.effect, effect, "{label}");
        assert_eq!(got.pause > Duration::ZERO, pauses, "{label}");
    }

    #[test]
    fn every_answer_has_one_next_step() {
        use Effect::{Nothing, Remove, Replace, Upsert};
        check(State::start(), page(&[1], None), &watching("7"), &Replace(vec![1]), false);
        check(State::start(), page(&[1], Some("t")), &listing(Some("t"), &[1]), &Nothing, false);
        check(listing(Some("t"), &[1]), page(&[2], None), &watching("7"), &Replace(vec![1, 2]), false);
        check(listing(Some("t"), &[1]), Input::Gone, &State::start(), &Nothing, false);
        check(listing(Some("t"), &[1]), Input::Failed, &listing(Some("t"), &[1]), &Nothing, true);
        check(State::start(), Input::Failed, &State::start(), &Nothing, true);
        check(watching("7"), upsert(3, "8"), &watching("8"), &Upsert(3), false);
        let removed = Input::Frame(Frame::Remove { object: 3, version: "9".into() });
        check(watching("8"), removed, &watching("9"), &Remove(3), false);
        let bookmark = Input::Frame(Frame::Bookmark { version: "20".into() });
        check(watching("8"), bookmark, &watching("20"), &Nothing, false);
        check(
            watching("8"),
            Input::Ended { lasted: Duration::from_secs(400) },
            &watching("8"),
            &Nothing,
            false,
        );
        check(watching("8"), Input::Ended { lasted: Duration::ZERO }, &watching("8"), &Nothing, true);
        check(watching("8"), Input::Failed, &watching("8"), &Nothing, true);
        check(watching("8"), Input::Gone, &State::start(), &Nothing, true);
    }
}

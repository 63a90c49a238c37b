//! A runtime in memory that behaves like a real one: for tests and for hollow nodes.
//!
//! It holds state (sandboxes, containers, images), containers live and die by [`Script`]s, and any call can be made to
//! fail, hang, lose its answer or lie by a [`Fault`]. Time is tokio's, so a test that pauses the clock decides when
//! containers exit. It passes the same contract suite as a real runtime.

mod containers;
mod fault; // what can go wrong
mod images;
mod sandboxes;
mod script; // how containers live and die
mod state; // what the runtime knows
mod streams;

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::error::CriError;
use crate::proto as v1;

pub use fault::Fault;
pub use script::{Ending, Exec, Run, Script};
use state::State;

/// How a fake is set up.
#[derive(Debug, Clone)]
pub struct FakeConfig {
    /// Pulls of any image succeed; else only of published ones.
    pub pull_anything: bool,
    /// How long a pull takes.
    pub pull_time: Duration,
    /// Whether `GetContainerEvents` is known.
    pub events: bool,
    /// Whether `RuntimeConfig` is known.
    pub runtime_config: bool,
    /// As a client of a real one gives up: no answer within this is [`CriError::TimedOut`]. Pulls have no deadline.
    pub deadline: Option<Duration>,
    /// The reported name and version.
    pub version: (String, String),
}

impl Default for FakeConfig {
    fn default() -> Self {
        Self {
            pull_anything: true,
            pull_time: Duration::ZERO,
            events: true,
            runtime_config: true,
            deadline: None,
            version: ("fake".to_owned(), "1.0.0".to_owned()),
        }
    }
}

/// What a restart of the runtime does to containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restart {
    /// The daemon alone: containers go on.
    Daemon,
    /// The machine: every process is gone, what was created is still known.
    Machine,
}

/// The runtime. Clones are the same runtime.
#[derive(Clone)]
pub struct FakeRuntime {
    shared: Arc<Shared>,
}

struct Shared {
    config: FakeConfig,
    state: Mutex<State>,
    faults: Mutex<Faults>,
    /// Something changed, or the runtime restarted.
    changed: Notify,
}

#[derive(Default)]
struct Faults {
    queued: HashMap<&'static str, Vec<Fault>>,
    /// So many calls to go.
    planned: Option<(usize, Fault)>,
    met: usize,
    calls: Vec<String>,
    generation: u64,
    /// The daemon is away until then.
    away_until: Option<Instant>,
}

impl Faults {
    /// What this call meets.
    fn next(&mut self, call: &str) -> Option<Fault> {
        match &mut self.planned {
            Some((0, _)) => return self.planned.take().map(|it| it.1),
            Some((left, _)) => *left -= 1,
            None => {}
        }
        let queue = self.queued.get_mut(call).filter(|queue| !queue.is_empty())?;
        Some(queue.remove(0))
    }
}

/// How many calls are remembered.
const CALLS: usize = 4096;

impl Default for FakeRuntime {
    fn default() -> Self {
        Self::new(FakeConfig::default())
    }
}

impl FakeRuntime {
    /// An empty runtime.
    pub fn new(config: FakeConfig) -> Self {
        let shared = Shared {
            config,
            state: Mutex::new(State::new()),
            faults: Mutex::new(Faults::default()),
            changed: Notify::new(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// How containers of this name live from now on; others run until they are stopped.
    pub fn script(&self, container: &str, script: Script) {
        self.state().scripts.insert(container.to_owned(), script);
    }

    /// Makes an image known, as if imported.
    pub fn add_image(&self, image: &str, size: u64) {
        self.state().add_image(image, size);
    }

    /// Makes an image pullable where not every image is.
    pub fn publish(&self, image: &str) {
        self.state().published.insert(image.to_owned());
    }

    /// The next `times` calls of this CRI name (`StartContainer`, ...) meet the fault.
    pub fn inject(&self, call: &'static str, fault: Fault, times: usize) {
        self.faults().queued.entry(call).or_default().extend(std::iter::repeat_n(fault, times));
    }

    /// The call after so many more, whichever it is, meets the fault.
    pub fn inject_after(&self, calls: usize, fault: Fault) {
        self.faults().planned = Some((calls, fault));
    }

    /// Forgets faults not yet met, and answers again.
    pub fn heal(&self) {
        let mut faults = self.faults();
        faults.queued.clear();
        faults.planned = None;
        faults.away_until = None;
    }

    /// How many calls met a fault so far.
    pub fn met(&self) -> usize {
        self.faults().met
    }

    /// The calls so far, oldest first, as `StartContainer c1`.
    pub fn calls(&self) -> Vec<String> {
        self.faults().calls.clone()
    }

    /// Ends a container's process now.
    pub fn kill(&self, container: &str, exit_code: i32) {
        self.state().end(container, exit_code, "");
        self.shared.changed.notify_waiters();
    }

    /// Restarts the runtime: calls under way and event streams break off.
    pub fn restart(&self, restart: Restart) {
        self.faults().generation += 1;
        if restart == Restart::Machine {
            self.state().power_cycle();
        }
        self.shared.changed.notify_waiters();
    }

    /// Waits until `done` holds for the running containers' ids, looking at each change.
    pub async fn wait_until(&self, done: impl Fn(&[v1::Container]) -> bool) {
        loop {
            let changed = self.shared.changed.notified();
            let (containers, next) = {
                let mut state = self.state();
                state.settle();
                (state.list_containers(None), state.next_exit())
            };
            if done(&containers) {
                return;
            }
            match next {
                Some(at) => drop(tokio::time::timeout_at(at, changed).await),
                None => changed.await,
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn faults(&self) -> MutexGuard<'_, Faults> {
        self.shared.faults.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Runs one call, as long as a client would wait for it.
    async fn call<T>(
        &self,
        name: &'static str,
        object: &str,
        work: impl Fn(&mut State) -> Result<T, Refusal>,
    ) -> Result<T, CriError> {
        let answer = self.answer(name, object, work);
        let Some(after) = self.shared.config.deadline.filter(|_| name != "PullImage") else {
            return answer.await;
        };
        let late = || CriError::TimedOut { call: name, object: object.to_owned(), after };
        tokio::time::timeout(after, answer).await.unwrap_or_else(|_elapsed| Err(late()))
    }

    /// Remembers the call, meets its fault, settles exits that are due, does the work.
    async fn answer<T>(
        &self,
        name: &'static str,
        object: &str,
        work: impl Fn(&mut State) -> Result<T, Refusal>,
    ) -> Result<T, CriError> {
        let (fault, generation) = {
            let mut faults = self.faults();
            if faults.away_until.is_some_and(|it| Instant::now() < it) {
                let message = "connection refused".to_owned();
                return Err(CriError::Unreachable { endpoint: "fake".to_owned(), message });
            }
            if faults.calls.len() == CALLS {
                faults.calls.remove(0);
            }
            faults.calls.push(format!("{name} {object}").trim_end().to_owned());
            let fault = faults.next(name);
            faults.met += usize::from(fault.is_some());
            (fault, faults.generation)
        };
        let refuse = |refusal: Refusal| CriError::Refused {
            call: name,
            object: object.to_owned(),
            code: refusal.0,
            message: refusal.1,
        };
        let broken =
            || refuse(Refusal(tonic::Code::Unavailable, "error reading from server: EOF".to_owned()));
        match fault {
            Some(Fault::Fail(code, message)) => return Err(refuse(Refusal(code, message))),
            Some(Fault::Delay(time)) => {
                self.while_up(generation, tokio::time::sleep(time)).await.ok_or_else(broken)?
            }
            Some(Fault::Hang) => {
                self.while_up(generation, std::future::pending::<()>()).await;
                return Err(broken());
            }
            Some(Fault::LoseAnswer) => {
                // What it did stands; the caller cannot know.
                drop(self.work(&work));
                return Err(broken());
            }
            Some(Fault::NoAnswer) => {
                drop(self.work(&work));
                self.while_up(generation, std::future::pending::<()>()).await;
                return Err(broken());
            }
            Some(Fault::Crash(away)) => {
                drop(self.work(&work));
                self.faults().away_until = Some(Instant::now() + away);
                self.restart(Restart::Daemon);
                return Err(broken());
            }
            Some(Fault::Twice) => drop(self.work(&work)),
            None => {}
        }
        self.work(&work).map_err(refuse)
    }

    fn work<T>(&self, work: impl Fn(&mut State) -> Result<T, Refusal>) -> Result<T, Refusal> {
        let outcome = {
            let mut state = self.state();
            state.settle();
            work(&mut state)
        };
        self.shared.changed.notify_waiters();
        outcome
    }

    /// Waits for `future`; `None` when the runtime restarts first.
    async fn while_up<T>(&self, generation: u64, future: impl Future<Output = T>) -> Option<T> {
        tokio::pin!(future);
        loop {
            let changed = self.shared.changed.notified();
            if self.faults().generation != generation {
                return None;
            }
            // Dropping `changed` loses nothing: the generation is looked at on every turn.
            tokio::select! {
                value = &mut future => return Some(value),
                () = changed => {}
            }
        }
    }
}

/// What the runtime says against a call.
struct Refusal(tonic::Code, String);

impl Refusal {
    fn not_found(what: &str, id: &str) -> Self {
        Self(tonic::Code::NotFound, format!("{what} {id:?}: not found"))
    }

    fn unknown(message: impl Into<String>) -> Self {
        Self(tonic::Code::Unknown, message.into())
    }
}

/// A name that another one has.
fn reserved(what: &str, name: &str, holder: &str) -> Refusal {
    Refusal::unknown(format!(
        "failed to reserve {what} name {name:?}: name {name:?} is reserved for {holder:?}"
    ))
}

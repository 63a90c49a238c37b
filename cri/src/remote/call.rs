//! One call to the runtime: its deadline, and what its failure is called.

use std::error::Error;
use std::future::Future;
use std::time::Duration;

use tonic::{Code, Response, Status};

use crate::error::CriError;

/// A call's name, object and deadline.
pub(super) struct Call<'a> {
    /// The CRI name.
    pub name: &'static str,
    /// What it is about.
    pub object: &'a str,
    /// No answer after this long is a failure; `None` waits as long as the caller does.
    pub deadline: Option<Duration>,
}

impl Call<'_> {
    /// Wraps `message`, telling the runtime the deadline so that it gives up too.
    pub fn request<T>(&self, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        if let Some(deadline) = self.deadline {
            request.set_timeout(deadline);
        }
        request
    }

    /// Waits for the answer, at most until the deadline.
    pub async fn settle<T>(
        &self,
        endpoint: &str,
        answer: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, CriError> {
        let outcome = match self.deadline {
            // Half a second later than the runtime's own deadline, so that its answer can say more than ours.
            Some(deadline) => tokio::time::timeout(deadline + Duration::from_millis(500), answer)
                .await
                .map_err(|_elapsed| self.timed_out(deadline))?,
            None => answer.await,
        };
        outcome.map(Response::into_inner).map_err(|status| self.failed(endpoint, &status))
    }

    /// Translates what gRPC says.
    pub fn failed(&self, endpoint: &str, status: &Status) -> CriError {
        if let Some(reason) = connect_failure(status) {
            return CriError::Unreachable { endpoint: endpoint.to_owned(), message: reason };
        }
        let expired = status.code() == Code::DeadlineExceeded || has_source::<tonic::TimeoutExpired>(status);
        match self.deadline {
            Some(deadline) if expired => self.timed_out(deadline),
            Some(_) | None => CriError::Refused {
                call: self.name,
                object: self.object.to_owned(),
                code: status.code(),
                message: status.message().to_owned(),
            },
        }
    }

    fn timed_out(&self, after: Duration) -> CriError {
        CriError::TimedOut { call: self.name, object: self.object.to_owned(), after }
    }
}

fn sources<'a>(status: &'a Status) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(status.source(), |err| (*err).source())
}

fn has_source<E: Error + 'static>(status: &Status) -> bool {
    sources(status).any(|err| err.is::<E>())
}

/// The reason, when the call never left because no connection could be made.
fn connect_failure(status: &Status) -> Option<String> {
    let connect = sources(status).find(|err| err.is::<tonic::ConnectError>())?;
    let root = std::iter::successors(Some(connect), |err| (*err).source()).last().unwrap_or(connect);
    Some(root.to_string())
}

/// Calls one method of one of the two clients and translates its failure.
macro_rules! rpc {
    ($remote:expr, $client:ident.$method:ident, $call:expr, $message:expr) => {{
        let call = $call;
        let mut client = $remote.$client.clone();
        let request = call.request($message);
        call.settle(&$remote.endpoint, client.$method(request)).await
    }};
}
pub(super) use rpc;

/// Turns "it is gone already" into success.
pub(super) fn gone_is_done<T>(outcome: Result<T, CriError>) -> Result<(), CriError> {
    match outcome {
        Err(err) if !err.is_not_found() => Err(err),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Whole seconds, rounded up: CRI's unit for grace periods and timeouts.
pub(super) fn whole_seconds(duration: Duration) -> i64 {
    let seconds = duration.as_secs() + u64::from(duration.subsec_nanos() > 0);
    i64::try_from(seconds).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_round_up() {
        let cases = [(0, 0), (1, 1), (999, 1), (1000, 1), (1001, 2), (30_000, 30)];
        for (millis, want) in cases {
            assert_eq!(whole_seconds(Duration::from_millis(millis)), want, "{millis} ms");
        }
    }

    #[test]
    fn statuses_become_errors_that_name_call_and_object() {
        let call = Call { name: "StopContainer", object: "c1", deadline: Some(Duration::from_secs(2)) };
        let check = |status: Status, want: &str| assert_eq!(call.failed("/e", &status).to_string(), want);
        check(Status::not_found("no such container"), "StopContainer c1: no such container");
        check(Status::deadline_exceeded("late"), "StopContainer c1: no answer within 2s");
        check(Status::unavailable("going down"), "StopContainer c1: going down");
        assert!(gone_is_done::<()>(Err(call.failed("/e", &Status::not_found("x")))).is_ok());
        assert!(gone_is_done::<()>(Err(call.failed("/e", &Status::internal("x")))).is_err());
    }

    #[tokio::test]
    async fn a_missing_socket_is_unreachable() {
        use crate::Sandboxes;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("none.sock");
        let remote = crate::Remote::connect(path.to_str().unwrap()).unwrap();
        let err = remote.version().await.unwrap_err();
        assert!(matches!(err, CriError::Unreachable { .. }), "{err:?}");
        assert!(!err.is_ambiguous());
    }
}

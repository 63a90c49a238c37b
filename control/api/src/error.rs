//! Every failure of a request is a `Status`; this is the one type that carries it.

use coracle_apimachinery::Status;
use coracle_store::StoreError;

/// A request's failure, as the client will see it.
#[derive(Debug, Clone)]
pub struct ApiError(Box<Status>);

/// What a step of a request gives.
pub type Outcome<T> = Result<T, ApiError>;

impl ApiError {
    /// The server is at fault.
    pub fn internal(message: impl std::fmt::Display) -> Self {
        Status::internal(message).into()
    }

    /// The client is at fault.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Status::bad_request(message).into()
    }

    /// As the client will see it.
    pub fn status(&self) -> &Status {
        &self.0
    }

    /// As the client will see it.
    pub fn into_status(self) -> Status {
        *self.0
    }

    /// The HTTP code.
    pub fn code(&self) -> i32 {
        self.0.code
    }

    /// Whether it is about an object that is not there.
    pub fn is_not_found(&self) -> bool {
        self.0.code == 404
    }
}

impl From<Status> for ApiError {
    fn from(status: Status) -> Self {
        Self(Box::new(status))
    }
}

impl From<StoreError> for ApiError {
    fn from(err: StoreError) -> Self {
        match &err {
            StoreError::NoSpace { .. } => Status::insufficient_storage(err.to_string()),
            StoreError::Compacted { .. } => {
                Status::expired("The resourceVersion for the provided list is too old.")
            }
            StoreError::Closed => Status::unavailable("the server is shutting down"),
            StoreError::Future { .. }
            | StoreError::Lagged
            | StoreError::Corrupt { .. }
            | StoreError::Engine { .. } => Status::internal(&err),
        }
        .into()
    }
}

impl std::fmt::Display for ApiError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for ApiError {}

//! One request on its way through the server.

use std::sync::Mutex;

use bytes::Bytes;
use serde_json::Value;

use crate::auth::UserInfo;
use crate::error::Outcome;
use crate::http::info::{Info, Query};
use crate::http::negotiate::{Form, PLAIN};
use crate::registry::WriteOptions;

/// A request whose caller is known and whose body has been read.
#[derive(Debug, Default)]
pub struct Call {
    /// Who asks.
    pub user: UserInfo,
    /// What is asked.
    pub info: Info,
    /// Query parameters.
    pub query: Query,
    /// `Content-Type` of the body, without parameters.
    pub content_type: String,
    /// `User-Agent`.
    pub user_agent: String,
    /// The form of the answer.
    pub form: Form,
    /// Whether the client reads gzip.
    pub gzip: bool,
    /// The body.
    pub body: Bytes,
    pub(crate) warnings: Mutex<Vec<String>>,
}

impl Default for Form {
    fn default() -> Self {
        PLAIN
    }
}

impl Call {
    /// Tells the client something that did not stop the request.
    pub fn warn(&self, text: impl Into<String>) {
        let text = text.into();
        let mut warnings = self.warnings.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if !warnings.contains(&text) {
            warnings.push(text);
        }
    }

    /// What the client is to be told.
    pub fn take_warnings(&self) -> Vec<String> {
        std::mem::take(&mut *self.warnings.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// Options of a write; `kind` names them in complaints.
    pub fn write_options(&self, kind: &str) -> Outcome<WriteOptions> {
        WriteOptions::parse(&self.query, &self.user_agent, kind)
    }
}

/// A write on its way: who, and how.
#[derive(Debug, Clone, Copy)]
pub struct Writer<'a> {
    /// The request.
    pub call: &'a Call,
    /// Its options.
    pub options: &'a WriteOptions,
}

/// What an update of an object makes of it, from what it is.
pub type Make<'a> = dyn Fn(&Value) -> Outcome<Value> + Send + Sync + 'a;

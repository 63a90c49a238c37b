//! Where the decoder is, and what it found wrong.

use std::fmt::Write as _;

use super::{DecodeError, Mode};
use crate::types::{Field, Type};

/// Complaints beyond this many are not kept.
const MAX_COMPLAINTS: usize = 100;

pub(super) enum Step<'t> {
    Field(&'t str),
    Index(usize),
    Key(String),
}

pub(super) struct Context<'t> {
    pub(super) mode: Mode,
    tells: bool,
    path: Vec<Step<'t>>,
    /// The structs around the present place, outermost first.
    structs: Vec<&'t str>,
    wrong: Option<DecodeError>,
    complaints: Vec<String>,
}

impl<'t> Context<'t> {
    pub(super) fn new(root: &'t Type, mode: Mode, tells: bool) -> Self {
        Self {
            mode,
            tells,
            path: Vec::new(),
            structs: vec![root.short_name()],
            wrong: None,
            complaints: Vec::new(),
        }
    }

    pub(super) fn finish(self) -> (Option<DecodeError>, Vec<String>) {
        (self.wrong, self.complaints)
    }

    pub(super) fn enter(&mut self, step: Step<'t>) {
        self.path.push(step);
    }

    pub(super) fn leave(&mut self) {
        self.path.pop();
    }

    pub(super) fn enter_struct(&mut self, ty: &'t Type) {
        self.structs.push(ty.short_name());
    }

    pub(super) fn leave_struct(&mut self) {
        self.structs.pop();
    }

    pub(super) fn unknown(&mut self, key: &str) {
        self.complain("unknown", key);
    }

    pub(super) fn duplicate(&mut self, key: &str) {
        self.complain("duplicate", key);
    }

    fn complain(&mut self, what: &str, key: &str) {
        if !self.tells || self.complaints.len() >= MAX_COMPLAINTS {
            return;
        }
        let mut path = self.path(true);
        if !path.is_empty() {
            path.push('.');
        }
        path.push_str(key);
        let text = format!("{what} field {path:?}");
        if !self.complaints.contains(&text) {
            self.complaints.push(text);
        }
    }

    fn path(&self, indices: bool) -> String {
        let mut text = String::new();
        for step in &self.path {
            match step {
                Step::Index(at) if indices => _ = write!(text, "[{at}]"),
                Step::Index(_) => {}
                Step::Field(name) => push_name(&mut text, name),
                Step::Key(name) => push_name(&mut text, name),
            }
        }
        text
    }

    /// Notes that a value of JSON type `got` stands where the field's Go type should.
    pub(super) fn mismatch(&mut self, got: &str, field: &Field, element: bool) {
        self.mismatch_of(got, &field.go_type(element));
    }

    pub(super) fn mismatch_of(&mut self, got: &str, go_type: &str) {
        let path = self.path(false);
        let holder = self.structs.last().copied().unwrap_or_default();
        let text = if path.is_empty() {
            format!("json: cannot unmarshal {got} into Go value of type {go_type}")
        } else {
            format!("json: cannot unmarshal {got} into Go struct field {holder}.{path} of type {go_type}")
        };
        self.fail(text);
    }

    /// Notes what a value's own parser said.
    pub(super) fn fail(&mut self, text: String) {
        self.wrong.get_or_insert(DecodeError::Type(text));
    }
}

fn push_name(text: &mut String, name: &str) {
    if !text.is_empty() {
        text.push('.');
    }
    text.push_str(name);
}

//! Values every part of a cluster shares, with the wire forms and sentences that clients know.
//!
//! Pure data: nothing here talks to anything. Validators return every complaint, not the first one.

pub mod duration; // Go durations and the ages that tables show
pub mod field; // paths into an object and what can be wrong there
pub mod hash; // FNV hashes, safe encodings, random name suffixes
pub mod names; // what a name, label or key may look like
pub mod quantity; // amounts of resources
pub mod selector; // label and field selectors
pub mod status; // the error every API call answers with
pub mod time; // timestamps in the API's forms

pub use duration::GoDuration;
pub use field::{ErrorType, FieldError, Path};
pub use hash::{pod_template_hash, rand_suffix};
pub use quantity::{Quantity, QuantityError};
pub use selector::{FieldSelector, LabelSelector, Selector};
pub use status::Status;

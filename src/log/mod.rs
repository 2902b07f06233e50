//! Segments: the files that are the truth.
//!
//! * [`files`]: a bounded number of open descriptors over any number of sealed files.
//! * [`tail`]: the one writer at the end of the active segment.
//! * [`walk`]: reading frames in order, verified.
//! * [`recovery`]: from files of unknown state to a log.

pub(crate) mod files;
pub(crate) mod recovery;
pub(crate) mod tail;
pub(crate) mod walk;

use std::path::Path;

use crate::error::Error;
use crate::format::Malformed;

/// Names the file of bytes that could not be decoded.
pub(crate) fn damaged(path: &Path, offset: u64, sequence: u64, malformed: Malformed) -> Error {
    match malformed {
        Malformed::NewerFormat { what, found, known } => {
            Error::NewerFormat { path: path.to_owned(), what, found, known }
        }
        Malformed::StoreMismatch { found } => Error::StoreMismatch {
            path: path.to_owned(),
            found: found.to_string(),
            expected: String::from("this store"),
        },
        Malformed::Damaged { reason } => Error::Corrupt { path: path.to_owned(), offset, sequence, reason },
    }
}

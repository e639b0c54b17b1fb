//! The table of rows, by subject.

mod choice;
mod dsr;
mod errors;
mod foreign;
mod fragments;
mod headers;
mod lifecycle;
mod limits;
mod malformed;
mod opening;
mod proving;
mod refusing;
mod scenes;

use super::script::Row;

/// All of them.
pub fn all() -> Vec<Row> {
    [
        foreign::ROWS,
        malformed::ROWS,
        opening::ROWS,
        headers::ROWS,
        proving::ROWS,
        lifecycle::ROWS,
        choice::ROWS,
        refusing::ROWS,
        limits::ROWS,
        errors::ROWS,
        fragments::ROWS,
        dsr::ROWS,
    ]
    .concat()
}

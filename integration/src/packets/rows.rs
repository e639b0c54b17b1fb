//! The table of rows, by subject.

mod choice;
mod dsr;
mod errors;
mod foreign;
mod fragments;
mod headers;
mod inside;
mod lifecycle;
mod limits;
mod malformed;
mod masquerade;
mod opening;
mod ports;
mod proving;
mod refusing;
mod scenes;
mod undefined;

use super::script::Row;

/// All of them.
pub fn all() -> Vec<Row> {
    [
        foreign::ROWS,
        malformed::ROWS,
        opening::ROWS,
        headers::ROWS,
        inside::ROWS,
        masquerade::ROWS,
        proving::ROWS,
        lifecycle::ROWS,
        ports::ROWS,
        choice::ROWS,
        refusing::ROWS,
        undefined::ROWS,
        limits::ROWS,
        errors::ROWS,
        fragments::ROWS,
        dsr::ROWS,
        dsr::receiving::ROWS,
    ]
    .concat()
}

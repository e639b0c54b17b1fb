//! The table of rows, by subject.

mod foreign;
mod opening;

use super::script::Row;

/// All of them.
pub fn all() -> Vec<Row> {
    [foreign::ROWS, opening::ROWS].concat()
}

//! integration

pub mod apiserver;

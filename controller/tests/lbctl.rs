//! Tests of `lbctl`: what it prints of a fixed state, of any bytes, and of a datapath in
//! force.

#[path = "lbctl/builder.rs"]
mod builder;
#[path = "lbctl/flows.rs"]
mod flows;
#[path = "lbctl/hostile.rs"]
mod hostile;
#[path = "lbctl/live.rs"]
mod live;
#[path = "lbctl/outside.rs"]
mod outside;
#[path = "lbctl/snapshot.rs"]
mod snapshot;
#[path = "lbctl/text.rs"]
mod text;

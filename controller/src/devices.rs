//! The devices and addresses of this node.
//!
//! ```text
//! rtnetlink → scan → Inventory → classify (pure) → NodeDevice → DEVICES, attachments
//!                              ↘ addresses (pure) ............ → NODE_ADDRESSES
//! ```
//!
//! [`watch`] says when something may have changed; then everything is looked at anew, so
//! that a lost message costs nothing but time. Everything here acts in the network
//! namespace of this process: the controller runs in the host's.

mod addresses;
mod classify;
mod inventory;
mod local;
mod options;
mod patterns;
mod plan;
pub mod preflight;
mod reserve;
mod scan;
mod settings;
pub mod watch;

pub(crate) use self::plan::direction_of;
pub use self::{
    addresses::{NodePortAddresses, health_check_addresses, node_addresses},
    classify::{NodeDevice, Obstacle, classify},
    inventory::{Address, Inventory, Link, LinkKind, Route},
    local::LocalDetector,
    options::{Options, XdpMode},
    patterns::Patterns,
    plan::{Attachment, Direction, Hook, PACKET_PROGRAMS, XdpChoice, attachments, xdp_choice},
    reserve::{release, reserve},
    settings::{config, snat_ports},
};

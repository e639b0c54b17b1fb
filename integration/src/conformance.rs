//! The conformance suite: what upstream's end-to-end tests ask of a service proxy, and what they
//! never ask, as cases that any proxy can be run through.
//!
//! * [`case`]: a case is a value: its name, the rows and rules of `RULES.md` that it proves, what
//!   it needs of the place where it runs, and the function that panics when a promise is broken.
//! * [`site`]: the seam between cases and that place. A [`Site`] has nodes with a proxy on each,
//!   starts pods and clients, and takes objects. [`netns`] is the site out of network namespaces.
//!   [`numbers`] are the addresses and ports that a site gives to Services.
//! * [`scenario`]: one case's part of a site: a Kubernetes namespace, its pods, clients and checks.
//!   This is all that cases see.
//! * [`cases`]: the cases, one file a topic; [`all`] lists them.
//! * [`rows`]: every row of upstream's tests, whether or not a case covers it.
//! * [`run`]: runs one case and says how it went; [`suite`] runs many, those that a [`selection`]
//!   leaves. [`report`] is what comes out; [`upstream`] reads results of upstream's own tests. [`options`] and [`progress`] are the program's face.

pub mod case;
pub mod cases;
pub mod netns;
pub mod numbers;
pub mod options;
pub mod progress;
pub mod report;
pub mod rows;
pub mod run;
pub mod scenario;
pub mod selection;
pub mod site;
pub mod suite;
pub mod upstream;

pub use case::{Case, Needs};
pub use cases::all;
pub use numbers::Numbers;
pub use run::{Outcome, run};
pub use scenario::Scenario;
pub use site::Site;

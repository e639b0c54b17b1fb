//! Follows this network namespace: a complete [`Inventory`] after every burst of changes,
//! and now and then without any.

use std::{io, time::Duration};

use futures::{StreamExt, channel::mpsc::UnboundedReceiver};
use netlink_packet_core::NetlinkMessage;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::SocketAddr;
use rtnetlink::{Handle, MulticastGroup, new_connection, new_multicast_connection};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout, timeout_at},
};
use tracing::{debug, warn};

use super::{Inventory, scan::scan};

/// How long to gather further events after one.
const DEBOUNCE: Duration = Duration::from_millis(20);

/// Looking at everything takes at most this share of the time: a router with a million
/// routes that change all the time is looked at less often.
const DUTY: u32 = 10;

/// How long nothing is looked at without an event.
const RESYNC: Duration = Duration::from_secs(30);

/// How long to wait after rtnetlink failed.
const RETRY: Duration = Duration::from_secs(1);

type Events = UnboundedReceiver<(NetlinkMessage<RouteNetlinkMessage>, SocketAddr)>;

/// A source of inventories.
#[derive(Debug)]
pub struct Watcher {
    handle: Handle,
    events: Events,
}

impl Watcher {
    /// Listens first, then looks: nothing that happens between goes unnoticed.
    pub async fn start() -> io::Result<(Self, Inventory)> {
        let watcher = Self::connect()?;
        let inventory = scan(&watcher.handle).await.map_err(io::Error::other)?;
        Ok((watcher, inventory))
    }

    fn connect() -> io::Result<Self> {
        use MulticastGroup::{Ipv4Ifaddr, Ipv4Route, Ipv6Ifaddr, Ipv6Route, Link};
        let groups = [Link, Ipv4Ifaddr, Ipv6Ifaddr, Ipv4Route, Ipv6Route];
        // Answers come through a socket of their own, which events cannot fill.
        let (asking, handle, _) = new_connection()?;
        let (listening, _, events) = new_multicast_connection(&groups)?;
        tokio::spawn(asking);
        tokio::spawn(listening);
        Ok(Self { handle, events })
    }

    /// Sends inventories until the receiver goes.
    pub async fn run(mut self, inventories: mpsc::Sender<Inventory>) {
        loop {
            let heard = timeout(RESYNC, self.events.next()).await;
            // That the kernel had to drop messages is an event like any other. The stream ends
            // when the socket fails: listen anew, then look.
            if matches!(heard, Ok(None)) {
                warn!("rtnetlink failed; listening anew");
                sleep(RETRY).await;
                match Self::connect() {
                    Ok(watcher) => self = watcher,
                    Err(error) => {
                        warn!(%error, "rtnetlink cannot be opened");
                        continue;
                    }
                }
            }
            self.gather().await;
            let started = Instant::now();
            let found = scan(&self.handle).await;
            // Not the time that the receiver takes, which loads programs meanwhile.
            let took = started.elapsed();
            debug!(?took, "looked at the devices");
            match found {
                Ok(inventory) => {
                    if inventories.send(inventory).await.is_err() {
                        return;
                    }
                }
                Err(error) => {
                    warn!(%error, "cannot look at the devices; trying again");
                    sleep(RETRY).await;
                }
            }
            sleep(took * DUTY).await;
        }
    }

    /// Takes in what follows an event closely.
    async fn gather(&mut self) {
        let until = Instant::now() + DEBOUNCE;
        while let Ok(Some(_)) = timeout_at(until, self.events.next()).await {}
    }
}

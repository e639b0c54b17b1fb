//! kube-rs watchers, the client our controller is built on, through every fault.

use std::pin::Pin;

use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1::Service;
use kube::{
    ResourceExt,
    runtime::{
        WatchStreamExt,
        watcher::{self, Event},
    },
};
use lb_integration::apiserver::{ApiServer, EventType};
use serde_json::json;

use super::clients::{next, server, service, services};

type Events = Pin<Box<dyn Stream<Item = Result<Event<Service>, watcher::Error>> + Send>>;

async fn watch(server: &ApiServer, config: watcher::Config) -> Events {
    watcher::watcher(services(server).await, config)
        .default_backoff()
        .boxed()
}

/// A short form of the next event; errors, which the watcher retries, are passed over.
async fn seen(events: &mut Events) -> String {
    loop {
        return match next(events).await {
            Ok(Event::Init) => "init".to_owned(),
            Ok(Event::InitApply(object)) => format!("listed {}", object.name_any()),
            Ok(Event::InitDone) => "synced".to_owned(),
            Ok(Event::Apply(object)) => format!("applied {}", object.name_any()),
            Ok(Event::Delete(object)) => format!("deleted {}", object.name_any()),
            Err(_) => continue,
        };
    }
}

/// Reads up to the end of the initial list and answers what was in it.
async fn sync(events: &mut Events) -> Vec<String> {
    let mut listed = Vec::new();
    loop {
        match seen(events).await.as_str() {
            "init" => listed.clear(),
            "synced" => return listed,
            event => listed.push(event.trim_start_matches("listed ").to_owned()),
        }
    }
}

#[tokio::test]
async fn chunked_list_is_complete_and_followed_by_changes() {
    let server = server();
    for index in 0..25 {
        server.create(service(&format!("web-{index:02}"))).unwrap();
    }
    let mut events = watch(&server, watcher::Config::default().page_size(10)).await;
    assert_eq!(sync(&mut events).await.len(), 25);
    let chunks = server
        .requests()
        .iter()
        .filter(|r| r.query.contains("limit=10"))
        .count();
    assert_eq!(chunks, 3);
    server.create(service("late")).unwrap();
    assert_eq!(seen(&mut events).await, "applied late");
    server
        .edit("svc", "default", "late", |o| {
            o["metadata"]["labels"] = json!({"a": "b"});
        })
        .unwrap();
    assert_eq!(seen(&mut events).await, "applied late");
    server.delete("svc", "default", "late").unwrap();
    assert_eq!(seen(&mut events).await, "deleted late");
}

#[tokio::test]
async fn streaming_list_is_complete_and_followed_by_changes() {
    let server = server();
    server.create(service("a")).unwrap();
    server.create(service("b")).unwrap();
    let mut events = watch(&server, watcher::Config::default().streaming_lists()).await;
    assert_eq!(sync(&mut events).await, ["a", "b"]);
    assert!(
        server.requests().iter().all(|r| r.query.contains("watch=")),
        "no plain list"
    );
    server.create(service("c")).unwrap();
    assert_eq!(seen(&mut events).await, "applied c");
}

#[tokio::test]
async fn objects_leaving_the_selector_are_deleted_and_entering_are_added() {
    let server = server();
    let label = "service.kubernetes.io/service-proxy-name";
    server.create(service("ours")).unwrap();
    let mut other = service("theirs");
    other["metadata"]["labels"] = json!({label: "other"});
    server.create(other).unwrap();
    let config = watcher::Config::default().labels(&format!("!{label}"));
    let mut events = watch(&server, config).await;
    assert_eq!(sync(&mut events).await, ["ours"]);
    server
        .edit("svc", "default", "ours", |o| {
            o["metadata"]["labels"] = json!({label: ""});
        })
        .unwrap();
    assert_eq!(seen(&mut events).await, "deleted ours");
    server
        .edit("svc", "default", "theirs", |o| {
            o["metadata"]["labels"] = json!({});
        })
        .unwrap();
    assert_eq!(seen(&mut events).await, "applied theirs");
}

#[tokio::test]
async fn watcher_relists_when_history_is_gone() {
    let server = server();
    server.create(service("a")).unwrap();
    let mut events = watch(&server, watcher::Config::default()).await;
    assert_eq!(sync(&mut events).await, ["a"]);
    server.create(service("b")).unwrap();
    assert_eq!(seen(&mut events).await, "applied b");
    server.delete("svc", "default", "a").unwrap();
    assert_eq!(seen(&mut events).await, "deleted a");
    server.compact();
    server.create(service("c")).unwrap();
    assert_eq!(
        seen(&mut events).await,
        "applied c",
        "an open watch goes on"
    );
    server.compact();
    server.faults().drop_watches();
    assert_eq!(sync(&mut events).await, ["b", "c"]);
    server.create(service("d")).unwrap();
    assert_eq!(seen(&mut events).await, "applied d");
}

#[tokio::test]
async fn watcher_relists_when_its_watch_is_refused_once() {
    let server = server();
    server.faults().expire_next_watches(1);
    server.create(service("a")).unwrap();
    let mut events = watch(&server, watcher::Config::default()).await;
    assert_eq!(sync(&mut events).await, ["a"]);
    assert_eq!(
        sync(&mut events).await,
        ["a"],
        "the first watch answered 410"
    );
}

#[tokio::test]
async fn watcher_resumes_after_an_outage_without_relisting() {
    let server = server();
    let mut events = watch(&server, watcher::Config::default()).await;
    sync(&mut events).await;
    server.create(service("before")).unwrap();
    assert_eq!(seen(&mut events).await, "applied before");
    server.begin_outage().unwrap();
    assert!(next(&mut events).await.is_err(), "the watch breaks");
    let refused = tokio::net::TcpStream::connect(server.address())
        .await
        .unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    server.create(service("during")).unwrap();
    server.resume().unwrap();
    assert_eq!(seen(&mut events).await, "applied during");
    server.begin_outage().unwrap();
    server.resume().unwrap();
    server.create(service("after")).unwrap();
    assert_eq!(seen(&mut events).await, "applied after");
}

#[tokio::test]
async fn watcher_outlives_server_errors_and_reset_connections() {
    let server = server();
    server.faults().fail_next(2, 500);
    server.faults().fail_next(1, 429);
    server.create(service("a")).unwrap();
    let mut events = watch(&server, watcher::Config::default()).await;
    assert_eq!(sync(&mut events).await, ["a"]);
    server.create(service("b")).unwrap();
    assert_eq!(seen(&mut events).await, "applied b");
    server.reset_connections();
    server.create(service("c")).unwrap();
    assert_eq!(seen(&mut events).await, "applied c");
}

#[tokio::test]
async fn odd_streams_are_delivered_as_ordered() {
    let server = server();
    let mut events = watch(&server, watcher::Config::default()).await;
    sync(&mut events).await;
    server.create(service("sign")).unwrap();
    assert_eq!(seen(&mut events).await, "applied sign");

    server.faults().duplicate_events(true);
    let old = server.create(service("a")).unwrap();
    assert_eq!(seen(&mut events).await, "applied a");
    assert_eq!(seen(&mut events).await, "applied a");
    server.faults().clear();

    server.delete("svc", "default", "a").unwrap();
    assert_eq!(seen(&mut events).await, "deleted a");
    server.inject_event(EventType::Modified, old).unwrap();
    assert_eq!(seen(&mut events).await, "applied a");

    server.faults().reorder_events(true);
    for name in ["x", "y", "z"] {
        server.create(service(name)).unwrap();
    }
    let mut order = Vec::new();
    for _ in 0..3 {
        order.push(seen(&mut events).await);
    }
    assert_eq!(order, ["applied z", "applied y", "applied x"]);
}

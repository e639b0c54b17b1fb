//! Servers on the loopback device.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, Ipv6Addr, TcpStream as Std},
    time::Duration,
};

use super::*;

const LOOPBACK: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::LOCALHOST),
    IpAddr::V6(Ipv6Addr::LOCALHOST),
];

fn health() -> Arc<Health> {
    Arc::new(Health::new(Duration::from_secs(60), true))
}

fn wanted(port: u16, v4: Option<u32>, v6: Option<u32>) -> BTreeMap<ObjectName, HealthCheck> {
    let name = ObjectName {
        namespace: "shop".into(),
        name: "web".into(),
    };
    let check = HealthCheck {
        port,
        local_endpoints: [v4, v6],
    };
    BTreeMap::from([(name, check)])
}

/// A port that nobody uses; held until dropped.
fn taken() -> (std::net::TcpListener, u16) {
    let listener = std::net::TcpListener::bind((LOOPBACK[0], 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

/// The whole answer to a request, in lower case; empty if the connection is refused.
async fn ask(address: IpAddr, port: u16, request: &'static str) -> String {
    tokio::task::spawn_blocking(move || {
        let Ok(mut stream) = Std::connect((address, port)) else {
            return String::new();
        };
        write!(
            stream,
            "{request} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text.to_lowercase()
    })
    .await
    .unwrap()
}

#[tokio::test]
async fn j2_j3_j4_j5_any_request_is_answered_with_the_count_of_its_family() {
    let health = health();
    let mut servers = HealthChecks::new(Arc::clone(&health));
    let (free, port) = taken();
    drop(free);
    let failures = servers
        .sync(&wanted(port, Some(2), Some(0)), &LOOPBACK)
        .await;
    assert_eq!(failures, []);
    assert!(
        ask(LOOPBACK[0], port, "GET /")
            .await
            .starts_with("http/1.1 503")
    );
    health.updated();
    for request in ["GET /", "GET /healthz", "POST /a/b?c", "PUT /", "QUERY /x"] {
        let text = ask(LOOPBACK[0], port, request).await;
        assert!(text.starts_with("http/1.1 200"), "{request}: {text}");
        for header in [
            "content-type: application/json",
            "x-content-type-options: nosniff",
            "x-load-balancing-endpoint-weight: 2",
        ] {
            assert!(text.contains(&format!("{header}\r\n")), "{text}");
        }
        let body: serde_json::Value =
            serde_json::from_str(text.split_once("\r\n\r\n").unwrap().1).unwrap();
        let expected = json!({
            "service": {"namespace": "shop", "name": "web"},
            "localendpoints": 2, "serviceproxyhealthy": true,
        });
        assert_eq!(body, expected);
    }
    let other_family = ask(LOOPBACK[1], port, "GET /").await;
    assert!(other_family.starts_with("http/1.1 503"), "{other_family}");
    assert!(other_family.contains("endpoint-weight: 0\r\n"));
    // A change is told at the same socket.
    servers
        .sync(&wanted(port, Some(0), Some(1)), &LOOPBACK)
        .await;
    assert!(
        ask(LOOPBACK[0], port, "GET /")
            .await
            .starts_with("http/1.1 503")
    );
    assert!(
        ask(LOOPBACK[1], port, "GET /")
            .await
            .starts_with("http/1.1 200")
    );
}

#[tokio::test]
async fn j6_a_node_that_leaves_is_answered_for_as_before() {
    let health = health();
    health.updated();
    health.stands(crate::model::Standing::Leaving);
    let mut servers = HealthChecks::new(health);
    let (free, port) = taken();
    drop(free);
    servers.sync(&wanted(port, Some(1), None), &LOOPBACK).await;
    assert!(
        ask(LOOPBACK[0], port, "GET /")
            .await
            .starts_with("http/1.1 200")
    );
}

#[tokio::test]
async fn j8_what_is_not_wanted_any_more_refuses_connections_at_once() {
    let mut servers = HealthChecks::new(health());
    let ((a, first), (b, second)) = (taken(), taken());
    drop((a, b));
    servers
        .sync(&wanted(first, Some(1), Some(1)), &LOOPBACK)
        .await;
    servers
        .sync(&wanted(second, Some(1), None), &LOOPBACK)
        .await;
    assert_eq!(ask(LOOPBACK[0], first, "GET /").await, "");
    assert_eq!(ask(LOOPBACK[1], first, "GET /").await, "");
    assert_ne!(ask(LOOPBACK[0], second, "GET /").await, "");
    assert_eq!(ask(LOOPBACK[1], second, "GET /").await, "");
    // A port may pass from one Service to another within one change.
    let mut passed = wanted(second, Some(1), None);
    let (mut name, check) = passed.pop_first().unwrap();
    name.name = "other".into();
    passed.insert(name, check);
    assert_eq!(servers.sync(&passed, &LOOPBACK).await, []);
    assert!(ask(LOOPBACK[0], second, "GET /").await.contains("other"));
    servers.sync(&BTreeMap::new(), &LOOPBACK).await;
    assert_eq!(ask(LOOPBACK[0], second, "GET /").await, "");
}

#[tokio::test]
async fn j7_taken_ports_are_told_once_and_tried_again() {
    let mut servers = HealthChecks::new(health());
    let (holder, port) = taken();
    let wanted = wanted(port, Some(1), None);
    let failures = servers.sync(&wanted, &LOOPBACK).await;
    assert_eq!(failures.len(), 1);
    assert_eq!(failures[0].address, (LOOPBACK[0], port).into());
    assert_eq!(servers.sync(&wanted, &LOOPBACK).await, []);
    assert!(!servers.retry_is_due(), "not at once");
    servers.retry_at = Instant::now();
    assert!(servers.retry_is_due());
    drop(holder);
    assert_eq!(servers.sync(&wanted, &LOOPBACK).await, []);
    assert!(!servers.retry_is_due());
    assert_ne!(ask(LOOPBACK[0], port, "GET /").await, "");
}

//! Single requests: what the API promises besides watching.

use std::time::{Duration, Instant};

use futures::TryStreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, Node, Service};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams},
    core::params::VersionMatch,
};
use lb_integration::apiserver::{ApiServer, Listen, Options};
use serde_json::{Value, json};

use super::clients::{
    PATIENCE, client, code, config_map, config_maps, next, server, service, services,
};

fn typed<T: serde::de::DeserializeOwned>(object: Value) -> T {
    serde_json::from_value(object).unwrap()
}

#[tokio::test]
async fn chunks_show_one_moment_and_expire() {
    let server = server();
    let api = config_maps(&server).await;
    for name in ["a", "b", "c", "d"] {
        server.create(config_map(name, "old")).unwrap();
    }
    let first = api.list(&ListParams::default().limit(2)).await.unwrap();
    assert_eq!(first.metadata.remaining_item_count, Some(2));
    let token = first.metadata.continue_.clone().unwrap();
    server.replace(config_map("c", "new")).unwrap();
    server.delete("cm", "default", "d").unwrap();
    server.create(config_map("e", "new")).unwrap();
    let rest = ListParams::default().limit(2).continue_token(&token);
    let second = api.list(&rest).await.unwrap();
    let seen: Vec<_> = second
        .items
        .iter()
        .map(|o| (o.name_any(), o.data.as_ref().unwrap()["k"].as_str()))
        .collect();
    assert_eq!(seen, [("c".to_owned(), "old"), ("d".to_owned(), "old")]);
    assert_eq!(
        second.metadata.resource_version,
        first.metadata.resource_version
    );
    server.compact();
    assert_eq!(code(api.list(&rest).await), 410);
}

#[tokio::test]
async fn list_versions_are_honoured() {
    let server = server();
    let api = config_maps(&server).await;
    server.create(config_map("a", "1")).unwrap();
    let then = server.resource_version().to_string();
    server.create(config_map("b", "1")).unwrap();
    let at = |version: &str, how| ListParams::default().at(version).matching(how);
    assert_eq!(
        api.list(&at(&then, VersionMatch::Exact))
            .await
            .unwrap()
            .items
            .len(),
        1
    );
    assert_eq!(
        api.list(&at(&then, VersionMatch::NotOlderThan))
            .await
            .unwrap()
            .items
            .len(),
        2
    );
    // kube-rs retries this until the server has caught up, so it is asked without.
    let answer = raw_get(&server, "/api/v1/configmaps?resourceVersion=999999").await;
    assert!(
        answer.contains("Too large resource version: 999999"),
        "{answer}"
    );
}

#[tokio::test]
async fn idle_watches_carry_bookmarks_past_other_kinds() {
    let server = server();
    let api = services(&server).await;
    let params = WatchParams::default().timeout(15);
    let mut events = Box::pin(
        api.watch(&params, &server.resource_version().to_string())
            .await
            .unwrap(),
    );
    server.create(config_map("elsewhere", "1")).unwrap();
    let wanted = server.resource_version();
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        match next(&mut events).await.unwrap() {
            WatchEvent::Bookmark(bookmark) => {
                if bookmark.metadata.resource_version.parse::<u64>().unwrap() >= wanted {
                    return;
                }
            }
            other => panic!("unexpected {other:?}"),
        }
    }
    panic!("no bookmark reached {wanted}");
}

#[tokio::test]
async fn watch_ends_in_peace_at_its_timeout() {
    let server = server();
    let api = services(&server).await;
    let started = Instant::now();
    let events = api
        .watch(&WatchParams::default().timeout(1), "0")
        .await
        .unwrap();
    events.try_collect::<Vec<_>>().await.unwrap();
    assert!(started.elapsed() >= Duration::from_secs(1));
}

#[tokio::test]
async fn versions_out_of_history_are_gone_in_the_stream_or_by_status() {
    let server = server();
    let api = services(&server).await;
    let old = server.resource_version().to_string();
    server.compact();
    let mut events = Box::pin(api.watch(&WatchParams::default(), &old).await.unwrap());
    match next(&mut events).await.unwrap() {
        WatchEvent::Error(status) => assert_eq!((status.code, &*status.reason), (410, "Expired")),
        other => panic!("unexpected {other:?}"),
    }
    server.faults().gone_as_http_status(true);
    assert_eq!(
        code(api.watch(&WatchParams::default(), &old).await.map(drop)),
        410
    );
}

#[tokio::test]
async fn watches_from_the_future_are_gone_or_wait_for_it() {
    let server = server();
    let api = services(&server).await;
    let current = server.resource_version();
    let future = (current + 2).to_string();
    let mut events = Box::pin(api.watch(&WatchParams::default(), &future).await.unwrap());
    match next(&mut events).await.unwrap() {
        WatchEvent::Error(status) => {
            assert_eq!((status.code, &*status.reason), (410, "Expired"));
            assert!(status.message.contains("too large resource version"));
        }
        other => panic!("unexpected {other:?}"),
    }
    // The present itself is no future.
    let present = current.to_string();
    let mut events = Box::pin(api.watch(&WatchParams::default(), &present).await.unwrap());
    server.create(service("a")).unwrap();
    assert!(matches!(next(&mut events).await, Ok(WatchEvent::Added(_))));

    server.faults().future_versions_wait(true);
    let future = (server.resource_version() + 1).to_string();
    let mut events = Box::pin(api.watch(&WatchParams::default(), &future).await.unwrap());
    server.create(service("b")).unwrap();
    server.create(service("c")).unwrap();
    match next(&mut events).await.unwrap() {
        WatchEvent::Added(service) => assert_eq!(service.metadata.name.as_deref(), Some("c")),
        other => panic!("unexpected {other:?}"),
    }
}

#[tokio::test]
async fn stale_updates_conflict() {
    let server = server();
    let api = config_maps(&server).await;
    let mut first: ConfigMap = api
        .create(&PostParams::default(), &typed(config_map("a", "1")))
        .await
        .unwrap();
    assert_eq!(
        code(
            api.create(&PostParams::default(), &typed(config_map("a", "1")))
                .await
        ),
        409
    );
    server.replace(config_map("a", "2")).unwrap();
    assert_eq!(
        code(api.replace("a", &PostParams::default(), &first).await),
        409
    );
    first.metadata.resource_version = None;
    assert!(
        api.replace("a", &PostParams::default(), &first)
            .await
            .is_ok()
    );
    assert_eq!(code(api.get("missing").await), 404);
}

#[tokio::test]
async fn patches_of_every_format_and_status_work() {
    let server = server();
    let api = services(&server).await;
    let params = PatchParams::apply("test");
    let mut web = service("web");
    web["spec"]["type"] = "LoadBalancer".into();
    let created = api
        .patch("web", &params, &Patch::Apply(&web))
        .await
        .unwrap();
    let cluster_ip = created.spec.unwrap().cluster_ip;
    assert!(cluster_ip.is_some());

    let patch: json_patch::Patch =
        typed(json!([{"op": "replace", "path": "/spec/ports/0/port", "value": 81}]));
    api.patch("web", &PatchParams::default(), &Patch::<Value>::Json(patch))
        .await
        .unwrap();
    let patch =
        json!({"spec": {"ports": [{"port": 82, "name": "second"}, {"port": 81, "name": "first"}]}});
    let patched = api
        .patch("web", &PatchParams::default(), &Patch::Strategic(&patch))
        .await
        .unwrap();
    let spec = patched.spec.unwrap();
    assert_eq!(spec.cluster_ip, cluster_ip);
    assert_eq!(spec.ports.unwrap().len(), 2);

    let patch = json!({"spec": {"type": "ClusterIP"}, "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}});
    let patched = api
        .patch_status("web", &PatchParams::default(), &Patch::Merge(&patch))
        .await
        .unwrap();
    assert_eq!(patched.spec.unwrap().type_.as_deref(), Some("LoadBalancer"));
    let ingress = patched
        .status
        .unwrap()
        .load_balancer
        .unwrap()
        .ingress
        .unwrap();
    assert_eq!(ingress[0].ip_mode.as_deref(), Some("VIP"));
}

#[tokio::test]
async fn generated_names_dry_runs_and_collections_work() {
    let server = server();
    let api = config_maps(&server).await;
    let mut object: ConfigMap = typed(config_map("", "1"));
    object.metadata.name = None;
    object.metadata.generate_name = Some("gen-".into());
    let dry = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    api.create(&dry, &object).await.unwrap();
    assert_eq!(server.list("cm", Some("default")).unwrap().len(), 0);
    let names: Vec<_> = [
        api.create(&PostParams::default(), &object)
            .await
            .unwrap()
            .name_any(),
        api.create(&PostParams::default(), &object)
            .await
            .unwrap()
            .name_any(),
    ]
    .into();
    assert!(
        names.iter().all(|name| name.starts_with("gen-")) && names[0] != names[1],
        "{names:?}"
    );
    server.create(config_map("kept", "1")).unwrap();
    let selected = ListParams::default().fields("metadata.name!=kept");
    api.delete_collection(&DeleteParams::default(), &selected)
        .await
        .unwrap();
    assert_eq!(server.list("cm", Some("default")).unwrap().len(), 1);
}

#[tokio::test]
async fn nodes_keep_the_status_they_register_with() {
    let server = server();
    let api: Api<Node> = Api::all(client(&server).await);
    let node = json!({
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"},
        "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}]},
    });
    let node = api
        .create(&PostParams::default(), &typed(node))
        .await
        .unwrap();
    assert_eq!(node.status.unwrap().addresses.unwrap().len(), 1);
}

#[tokio::test]
async fn ordered_failures_and_delays_happen_and_requests_are_recorded() {
    let server = server();
    let api = services(&server).await;
    server.faults().fail_next_matching(1, 503, "/services");
    assert!(
        config_maps(&server)
            .await
            .list(&ListParams::default())
            .await
            .is_ok()
    );
    // One attempt per request: whoever retries is the client under test.
    let failed = raw_get(&server, "/api/v1/services").await;
    assert!(failed.starts_with("HTTP/1.1 503"), "{failed}");
    assert!(
        failed.contains("\"reason\":\"ServiceUnavailable\""),
        "{failed}"
    );
    server.faults().delay(Duration::from_millis(300));
    let started = Instant::now();
    api.list(&ListParams::default()).await.unwrap();
    assert!(started.elapsed() >= Duration::from_millis(300));
    let seen = server.requests();
    assert!(
        seen.iter()
            .any(|r| r.method == "GET" && r.path == "/api/v1/services")
    );
}

/// One request over a connection of its own; the whole answer as text.
async fn raw_get(server: &ApiServer, path: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(server.address())
        .await
        .unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn given_socket_is_served_through_an_outage_and_shutdown_frees_it() {
    let probe = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = probe.local_addr().unwrap();
    drop(probe);
    let socket = std::net::TcpListener::bind(address).unwrap();
    let options = Options {
        listen: Listen::Socket(socket),
        advertise: Some("192.0.2.1:6443".parse().unwrap()),
        ..Options::default()
    };
    let server = ApiServer::start(options).unwrap();
    let api: Api<Service> = services(&server).await;
    let own = api.get("kubernetes").await.unwrap();
    assert_eq!(own.spec.unwrap().cluster_ip.as_deref(), Some("10.96.0.1"));
    server.begin_outage().unwrap();
    server.resume().unwrap();
    assert_eq!(server.address(), address);
    assert!(raw_get(&server, "/readyz").await.ends_with("ok"));
    server.shutdown().await.unwrap();
    assert!(std::net::TcpListener::bind(address).is_ok());
}

#[test]
fn own_thread_serves_a_blocked_test_and_ends_with_the_server() {
    use std::io::{Read, Write};
    let server = ApiServer::start_on_thread(Options::default()).unwrap();
    let address = server.address();
    let mut watch = std::net::TcpStream::connect(address).unwrap();
    watch.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = "GET /api/v1/services?watch=1 HTTP/1.1\r\nHost: test\r\n\r\n";
    watch.write_all(request.as_bytes()).unwrap();
    server.create(service("web")).unwrap();
    let mut seen = String::new();
    let mut buffer = [0; 4096];
    while !seen.contains("\"name\":\"web\"") {
        let read = watch.read(&mut buffer).unwrap();
        assert_ne!(read, 0, "the watch goes on: {seen}");
        seen.push_str(&String::from_utf8_lossy(&buffer[..read]));
    }
    drop(server);
    assert!(
        !matches!(watch.read(&mut buffer), Ok(1..)),
        "the watch ends with the server"
    );
    assert!(std::net::TcpStream::connect(address).is_err());
}

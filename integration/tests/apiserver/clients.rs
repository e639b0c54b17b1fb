//! Servers, clients and objects the tests share.

use std::time::Duration;

use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use kube::{
    Api, Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use lb_integration::apiserver::{ApiServer, Options};
use serde_json::{Value, json};

/// Long enough for a busy machine; a test that waits this long has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A server whose bookmarks come fast.
pub(crate) fn server() -> ApiServer {
    let options = Options {
        bookmark_interval: Duration::from_millis(200),
        ..Options::default()
    };
    ApiServer::start(options).unwrap()
}

/// A kube-rs client built from the server's own kubeconfig.
pub(crate) async fn client(server: &ApiServer) -> Client {
    let kubeconfig = Kubeconfig::from_yaml(&server.kubeconfig()).unwrap();
    let options = KubeConfigOptions::default();
    let config = Config::from_custom_kubeconfig(kubeconfig, &options)
        .await
        .unwrap();
    Client::try_from(config).unwrap()
}

pub(crate) async fn services(server: &ApiServer) -> Api<Service> {
    Api::default_namespaced(client(server).await)
}

pub(crate) async fn config_maps(server: &ApiServer) -> Api<ConfigMap> {
    Api::default_namespaced(client(server).await)
}

pub(crate) fn service(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
        "spec": {"selector": {"app": name}, "ports": [{"port": 80}]},
    })
}

pub(crate) fn config_map(name: &str, value: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"k": value},
    })
}

/// The next item of a stream that must have one.
pub(crate) async fn next<T>(stream: &mut (impl Stream<Item = T> + Unpin)) -> T {
    let item = tokio::time::timeout(PATIENCE, stream.next()).await;
    item.expect("an item before patience ends")
        .expect("the stream goes on")
}

/// The HTTP status of an API error.
pub(crate) fn code<T>(result: Result<T, kube::Error>) -> u16 {
    match result {
        Err(kube::Error::Api(status)) => status.code,
        Err(other) => panic!("not an API error: {other}"),
        Ok(_) => panic!("expected an error"),
    }
}

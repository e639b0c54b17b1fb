//! Any API server by its kubeconfig, in blocking calls.

use std::{future::Future, path::Path, thread};

use anyhow::{Context, Result};
use http::{Method, Request};
use kube::{
    Client, Config, Error,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::{Value, json};
use tokio::runtime::{Builder, Handle};
use tokio_util::sync::CancellationToken;

/// A client. Its connections live on a thread of its own, so that any number of threads may call.
pub struct Http {
    client: Client,
    runtime: Handle,
    stop: CancellationToken,
}

// === impl Http ===

impl Http {
    /// A client for the current context of a kubeconfig.
    pub fn connect(kubeconfig: &Path) -> Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let read = Kubeconfig::read_from(kubeconfig);
        let read = read.with_context(|| format!("reading {}", kubeconfig.display()))?;
        let client = runtime.block_on(async {
            let options = KubeConfigOptions::default();
            let config = Config::from_custom_kubeconfig(read, &options).await?;
            anyhow::Ok(Client::try_from(config)?)
        })?;
        let (handle, stop) = (runtime.handle().clone(), CancellationToken::new());
        let stopped = stop.clone();
        thread::spawn(move || runtime.block_on(stopped.cancelled()));
        Ok(Self {
            client,
            runtime: handle,
            stop,
        })
    }

    /// The object at `path`, if there is one.
    pub fn get(&self, path: &str) -> Result<Option<Value>> {
        found(self.call(Method::GET, path, None))
    }

    /// Creates an object in the collection at `path`.
    pub fn create(&self, path: &str, object: &Value) -> Result<Value> {
        let created = self.call(Method::POST, path, Some(object));
        created.with_context(|| format!("creating in {path}"))
    }

    /// Replaces the object at `path`.
    pub fn replace(&self, path: &str, object: &Value) -> Result<Value> {
        let replaced = self.call(Method::PUT, path, Some(object));
        replaced.with_context(|| format!("replacing {path}"))
    }

    /// Merges `change` into the object at `path`.
    pub fn merge(&self, path: &str, change: &Value) -> Result<Value> {
        let merged = self.call(Method::PATCH, path, Some(change));
        merged.with_context(|| format!("patching {path}"))
    }

    /// Deletes the object at `path` after this many seconds of grace; one that does not exist is
    /// fine.
    pub fn delete(&self, path: &str, grace: Option<u32>) -> Result<()> {
        let options = grace.map(|seconds| json!({"gracePeriodSeconds": seconds}));
        let deleted = found(self.call(Method::DELETE, path, options.as_ref()));
        deleted
            .map(drop)
            .with_context(|| format!("deleting {path}"))
    }

    fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, Error> {
        let content = if method == Method::PATCH {
            "application/merge-patch+json"
        } else {
            "application/json"
        };
        let body = body.map_or_else(Vec::new, |body| body.to_string().into_bytes());
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("Content-Type", content)
            .body(body)
            .map_err(Error::HttpError)?;
        self.block_on(self.client.request(request))
    }

    fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }
}

impl Drop for Http {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Nothing, where the API server says 404.
fn found(answer: Result<Value, Error>) -> Result<Option<Value>> {
    match answer {
        Ok(object) => Ok(Some(object)),
        Err(Error::Api(status)) if status.code == 404 => Ok(None),
        Err(error) => Err(error.into()),
    }
}

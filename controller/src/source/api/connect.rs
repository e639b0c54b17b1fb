//! Finding the API server.
#![forbid(unsafe_code)]

use std::{error::Error, iter::successors, path::Path, time::Duration};

use http::Response;
use kube::{
    Client, Config,
    client::{ClientBuilder, DynBody},
    config::{KubeConfigOptions, Kubeconfig, KubeconfigError},
    core::Status,
};
use tower::util::MapResponseLayer;

use super::super::SourceError;
use crate::exit::sentence;

/// A server that does not answer is tried again: better soon than after kube's 30 s.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Where the API is and how to authenticate.
pub(super) async fn config(kubeconfig: Option<&Path>) -> Result<Config, SourceError> {
    let mut config = match kubeconfig {
        Some(path) => {
            let parsed = Kubeconfig::read_from(path).map_err(|error| match error {
                // The path is in our sentence already.
                KubeconfigError::ReadConfig(error, _) => unusable(path, &error),
                other => unusable(path, &other),
            })?;
            let options = KubeConfigOptions::default();
            let config = Config::from_custom_kubeconfig(parsed, &options).await;
            config.map_err(|error| unusable(path, &error))?
        }
        None => match Config::incluster() {
            Ok(config) => config,
            Err(_not_in_a_pod) => Config::infer().await.map_err(|error| SourceError::NoApi {
                reason: chain(&error),
            })?,
        },
    };
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    Ok(config)
}

/// A client that calls `reached` whenever the API server has answered with success: a
/// watch that resumes says nothing by itself until something changes. Fails on unusable
/// certificates and keys.
pub(super) fn client(
    config: Config,
    kubeconfig: Option<&Path>,
    reached: impl Fn() + Clone + Send + 'static,
) -> Result<Client, SourceError> {
    let builder = ClientBuilder::try_from(config).map_err(|error| match kubeconfig {
        Some(path) => unusable(path, &error),
        None => SourceError::NoApi {
            reason: chain(&error),
        },
    })?;
    let layer = MapResponseLayer::new(move |response: Response<Box<DynBody>>| {
        if response.status().is_success() {
            reached();
        }
        response
    });
    Ok(builder.with_layer(&layer).build())
}

fn unusable(path: &Path, error: &(dyn Error + 'static)) -> SourceError {
    SourceError::Kubeconfig {
        path: path.to_owned(),
        reason: chain(error),
    }
}

/// An error and its causes in one line.
pub(super) fn chain(error: &(dyn Error + 'static)) -> String {
    if let Some(status) = refusal(error) {
        return format!("{} (HTTP {})", status.message, status.code);
    }
    // Parsers append pictures of the offending lines.
    sentence(error)
        .lines()
        .next()
        .unwrap_or_default()
        .to_owned()
}

/// What the API server has answered, if that is the cause: kube prints it with all its fields.
fn refusal<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a Status> {
    let causes = successors(Some(error), |&error| error.source());
    let mut answers = causes.filter_map(|cause| match cause.downcast_ref() {
        Some(kube::Error::Api(status)) => Some(&**status),
        _ => None,
    });
    answers.next()
}

#[cfg(test)]
mod tests {
    use kube::runtime::watcher;

    use super::*;

    #[test]
    fn refusals_of_the_api_server_are_its_own_words() {
        let status = Status::failure("services is forbidden", "Forbidden").with_code(403);
        let error = watcher::Error::InitialListFailed(kube::Error::Api(Box::new(status)));
        assert_eq!(chain(&error), "services is forbidden (HTTP 403)");
    }

    #[test]
    fn other_errors_are_told_with_their_causes() {
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        let error = watcher::Error::WatchFailed(kube::Error::Service(Box::new(refused)));
        assert!(
            chain(&error).ends_with(": connection refused"),
            "{}",
            chain(&error)
        );
    }
}

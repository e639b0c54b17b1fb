//! What clients asked for, so that tests can tell what a client does not do.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use axum::{extract::Request, http::header};

/// Records kept; older ones are forgotten.
const KEPT: usize = 65_536;

/// One request as it arrived, before faults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestRecord {
    pub method: String,
    pub path: String,
    /// Still percent-encoded; empty when absent.
    pub query: String,
    pub user_agent: String,
}

impl RequestRecord {
    pub(super) fn of(request: &Request) -> Self {
        let agent = request
            .headers()
            .get(header::USER_AGENT)
            .and_then(|value| value.to_str().ok());
        Self {
            method: request.method().to_string(),
            path: request.uri().path().to_owned(),
            query: request.uri().query().unwrap_or_default().to_owned(),
            user_agent: agent.unwrap_or_default().to_owned(),
        }
    }
}

/// The last requests in order of arrival.
#[derive(Debug, Default)]
pub(super) struct RequestLog {
    records: Mutex<VecDeque<RequestRecord>>,
}

impl RequestLog {
    fn records(&self) -> MutexGuard<'_, VecDeque<RequestRecord>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn record(&self, record: RequestRecord) {
        let mut records = self.records();
        if records.len() == KEPT {
            records.pop_front();
        }
        records.push_back(record);
    }

    pub(super) fn all(&self) -> Vec<RequestRecord> {
        self.records().iter().cloned().collect()
    }

    pub(super) fn clear(&self) {
        self.records().clear();
    }
}

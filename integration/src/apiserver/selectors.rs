//! Label and field selectors (`k8s.io/apimachinery` labels and fields packages).

use serde_json::Value;

use super::{error::ApiError, kinds::Kind, object::meta};

/// Both selectors of one list or watch request; the default selects everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Selectors {
    labels: Vec<LabelTerm>,
    fields: Vec<FieldTerm>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum LabelTerm {
    Exists(String),
    Absent(String),
    In(String, Vec<String>),
    /// Also true for objects without the key.
    NotIn(String, Vec<String>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct FieldTerm {
    path: String,
    value: String,
    equal: bool,
}

impl Selectors {
    /// Parses the two query parameters; a malformed one is a 400.
    pub(crate) fn parse(kind: &Kind, labels: &str, fields: &str) -> Result<Self, ApiError> {
        let labels = split_terms(labels)
            .into_iter()
            .map(|term| {
                parse_label(term).ok_or_else(|| {
                    ApiError::BadRequest(format!("unable to parse requirement: {term:?}"))
                })
            })
            .collect::<Result<_, _>>()?;
        let fields = fields
            .split(',')
            .filter(|term| !term.is_empty())
            .map(|term| parse_field(kind, term))
            .collect::<Result<_, _>>()?;
        Ok(Self { labels, fields })
    }

    /// True when no term was given.
    pub(crate) fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    pub(crate) fn matches(&self, object: &Value) -> bool {
        let labels = &object["metadata"]["labels"];
        self.labels.iter().all(|term| term.matches(labels))
            && self.fields.iter().all(|term| term.matches(object))
    }
}

impl LabelTerm {
    fn matches(&self, labels: &Value) -> bool {
        let value = |key: &str| labels.get(key).and_then(Value::as_str);
        match self {
            Self::Exists(key) => value(key).is_some(),
            Self::Absent(key) => value(key).is_none(),
            Self::In(key, set) => value(key).is_some_and(|v| set.iter().any(|s| s == v)),
            Self::NotIn(key, set) => value(key).is_none_or(|v| set.iter().all(|s| s != v)),
        }
    }
}

impl FieldTerm {
    fn matches(&self, object: &Value) -> bool {
        let value = match self.path.as_str() {
            "metadata.name" => meta(object, "name").to_owned(),
            "metadata.namespace" => meta(object, "namespace").to_owned(),
            path => match path.split('.').fold(object, |value, field| &value[field]) {
                Value::Null => String::new(),
                Value::String(s) => s.clone(),
                other => other.to_string(),
            },
        };
        (value == self.value) == self.equal
    }
}

/// Commas separate terms except inside the parentheses of `in (a,b)`.
fn split_terms(selector: &str) -> Vec<&str> {
    let mut depth = 0_usize;
    selector
        .split(|c: char| {
            match c {
                '(' => depth += 1,
                ')' => depth = depth.saturating_sub(1),
                _ => {}
            }
            c == ',' && depth == 0
        })
        .map(str::trim)
        .filter(|term| !term.is_empty())
        .collect()
}

fn parse_label(term: &str) -> Option<LabelTerm> {
    let valid = |key: &str| {
        !key.is_empty()
            && key
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c))
    };
    let keyed = |key: &str| Some(key.trim().to_owned()).filter(|key| valid(key));
    if let Some(key) = term.strip_prefix('!') {
        return Some(LabelTerm::Absent(keyed(key)?));
    }
    if let Some((head, set)) = term.split_once('(') {
        let set = set
            .strip_suffix(')')?
            .split(',')
            .map(|v| v.trim().to_owned())
            .collect();
        let (key, operator) = head.trim().split_once(char::is_whitespace)?;
        return match operator.trim() {
            "in" => Some(LabelTerm::In(keyed(key)?, set)),
            "notin" => Some(LabelTerm::NotIn(keyed(key)?, set)),
            _ => None,
        };
    }
    if let Some((key, value)) = term.split_once("!=") {
        return Some(LabelTerm::NotIn(keyed(key)?, vec![value.trim().to_owned()]));
    }
    if let Some((key, value)) = term.split_once('=') {
        let value = value.strip_prefix('=').unwrap_or(value).trim().to_owned();
        return Some(LabelTerm::In(keyed(key)?, vec![value]));
    }
    Some(LabelTerm::Exists(keyed(term)?))
}

fn parse_field(kind: &Kind, term: &str) -> Result<FieldTerm, ApiError> {
    let (path, value, equal) = if let Some((path, value)) = term.split_once("!=") {
        (path, value, false)
    } else if let Some((path, value)) = term.split_once('=') {
        (path, value.strip_prefix('=').unwrap_or(value), true)
    } else {
        return Err(ApiError::BadRequest(format!("invalid selector: '{term}'")));
    };
    if !supported(kind, path) {
        return Err(ApiError::BadRequest(format!(
            "field label not supported: {path}"
        )));
    }
    Ok(FieldTerm {
        path: path.to_owned(),
        value: value.to_owned(),
        equal,
    })
}

/// The fields a real server lets clients select on, per kind.
fn supported(kind: &Kind, path: &str) -> bool {
    let own: &[&str] = match (kind.group, kind.plural) {
        ("", "services") => &["spec.clusterIP", "spec.type"],
        ("", "pods") => &[
            "spec.nodeName",
            "spec.restartPolicy",
            "status.phase",
            "status.podIP",
        ],
        ("", "nodes") => &["spec.unschedulable"],
        ("", "namespaces") => &["status.phase"],
        ("", "secrets") => &["type"],
        ("networking.k8s.io", "ipaddresses") => &["spec.parentRef.name"],
        ("", "events") => &[
            "involvedObject.kind",
            "involvedObject.name",
            "involvedObject.namespace",
            "involvedObject.uid",
            "reason",
            "type",
            "source",
        ],
        ("events.k8s.io", "events") => &["regarding.kind", "regarding.name", "reason", "type"],
        _ => &[],
    };
    own.contains(&path)
        || path == "metadata.name"
        || (path == "metadata.namespace" && kind.namespaced())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::apiserver::kinds;

    fn selects(labels: &str, fields: &str) -> bool {
        let object = json!({
            "metadata": {"name": "web", "namespace": "prod", "labels": {"app": "web", "a.b/c": ""}},
            "spec": {"clusterIP": "None"},
        });
        let kind = kinds::by_name("services").unwrap();
        Selectors::parse(kind, labels, fields)
            .unwrap()
            .matches(&object)
    }

    #[test]
    fn label_operators_select() {
        for (selector, expected) in [
            ("", true),
            ("app", true),
            ("!app", false),
            ("!service.kubernetes.io/service-proxy-name", true),
            ("app=web", true),
            ("app==web", true),
            ("app!=web", false),
            ("other!=web", true),
            ("app in (db, web),a.b/c", true),
            ("app notin (db,web)", false),
            ("missing notin (x)", true),
            ("a.b/c=", true),
            ("app,!a.b/c", false),
        ] {
            assert_eq!(selects(selector, ""), expected, "{selector}");
        }
    }

    #[test]
    fn field_terms_select() {
        assert!(selects("", "metadata.name=web,metadata.namespace=prod"));
        assert!(!selects("", "spec.clusterIP!=None"));
        assert!(!selects("", "metadata.name!=web"));
    }

    #[test]
    fn malformed_selectors_are_refused() {
        let kind = kinds::by_name("services").unwrap();
        for (labels, fields) in [
            ("app in web", ""),
            ("a(b)", ""),
            ("=x", ""),
            ("", "spec.x=1"),
            ("", "name"),
        ] {
            assert!(
                Selectors::parse(kind, labels, fields).is_err(),
                "{labels:?} {fields:?}"
            );
        }
    }
}

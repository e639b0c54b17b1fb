//! Where the API keeps the kinds of objects that cases write.

use anyhow::{Result, bail};
use serde_json::Value;

use crate::objects::ObjectId;

/// The paths of an object's collection and of itself.
pub(super) fn path_of(object: &Value) -> Result<(String, String)> {
    let id = ObjectId::of(object)?;
    let (root, plural) = match id.kind.as_str() {
        "Service" => ("/api/v1", "services"),
        "Endpoints" => ("/api/v1", "endpoints"),
        "EndpointSlice" => ("/apis/discovery.k8s.io/v1", "endpointslices"),
        other => bail!("cases write no {other} objects"),
    };
    let collection = format!("{root}/namespaces/{}/{plural}", id.namespace);
    let path = format!("{collection}/{}", id.name);
    Ok((collection, path))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn objects_are_under_their_group_and_namespace() {
        let slice =
            json!({"kind": "EndpointSlice", "metadata": {"namespace": "n", "name": "web-1"}});
        let collection = "/apis/discovery.k8s.io/v1/namespaces/n/endpointslices";
        let path = format!("{collection}/web-1");
        assert_eq!(path_of(&slice).unwrap(), (collection.to_owned(), path));
        assert!(path_of(&json!({"kind": "Secret", "metadata": {"name": "s"}})).is_err());
    }
}

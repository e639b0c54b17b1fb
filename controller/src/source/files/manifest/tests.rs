//! What is read from which text, and what is said about text that is wrong.

use super::*;
use crate::model::ObjectName;

fn read(text: &str, json: bool) -> Result<Vec<String>, ManifestError> {
    let mut events = Vec::new();
    let mut converter = Converter::new("node-1");
    parse(text, json, &mut converter, &mut |event| events.push(event))?;
    let describe = |event: &Event| match event {
        Event::Service(name, record) => format!("Service {name} {}", record.is_some()),
        Event::EndpointSlice(name, record) => format!("EndpointSlice {name} {}", record.is_some()),
        Event::Node(node) => format!("Node {:?}", node.zone),
        other => format!("{other:?}"),
    };
    Ok(events.iter().map(describe).collect())
}

fn yaml(text: &str) -> Vec<String> {
    read(text, false).unwrap()
}

fn error(text: &str, json: bool) -> String {
    read(text, json).unwrap_err().to_string()
}

const SERVICE: &str = "\
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.96.0.1, ports: [{port: 80}]}
";

#[test]
fn documents_of_all_handled_kinds_are_read_and_others_ignored() {
    let text = format!(
        "# a comment
---
{SERVICE}---
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: web-1
  namespace: shop
  labels:
    kubernetes.io/service-name: web
addressType: IPv4
endpoints:
- addresses: [10.1.0.1]
ports:
- name: ''
  port: 8080
---
apiVersion: v1
kind: Node
metadata: {{name: node-1, labels: {{topology.kubernetes.io/zone: a}}}}
---
apiVersion: v1
kind: Node
metadata: {{name: node-2}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: web}}
spec: {{type: 7, ports: none of your business}}
---
apiVersion: serving.knative.dev/v1
kind: Service
metadata: {{name: other}}
spec: {{clusterIP: [1]}}
"
    );
    assert_eq!(
        yaml(&text),
        [
            "Service shop/web true",
            "EndpointSlice shop/web-1 true",
            "Node Some(\"a\")"
        ]
    );
}

#[test]
fn lists_are_read_with_and_without_kinds_of_their_items() {
    let kubectl = r#"{"apiVersion": "v1", "items": [
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}},
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "b"}}
    ], "kind": "List", "metadata": {"resourceVersion": ""}}"#;
    assert_eq!(read(kubectl, true).unwrap(), ["Service default/a false"]);
    let api =
        r#"{"kind": "ServiceList", "apiVersion": "v1", "items": [{"metadata": {"name": "a"}}]}"#;
    assert_eq!(read(api, true).unwrap(), ["Service default/a false"]);
    assert_eq!(yaml("kind: List\napiVersion: v1\nitems: []\n"), [""; 0]);
}

#[test]
fn a_list_as_kubectl_prints_it_is_read_item_by_item() {
    let item = SERVICE.trim_end().replace('\n', "\n  ");
    let list = format!("apiVersion: v1\nitems:\n- {item}\n- {item}\nkind: List\n");
    assert_eq!(yaml(&list), ["Service shop/web true"; 2]);
    let broken = error(&list.replace("kind: List", "kind: ["), false);
    assert!(broken.starts_with("document 1, line "), "{broken}");
    let wrong = list
        .replace("port: 80", "port: x")
        .replacen("port: x", "port: 80", 1);
    let wrong = error(&wrong, false);
    assert!(
        wrong.starts_with("document 1, line 7: Service shop/web: "),
        "{wrong}"
    );
    assert_eq!(yaml("kind: Other\nitems:\n- a: 1\n"), [""; 0]);
}

#[test]
fn json_may_have_several_documents_and_any_file_name() {
    let object = r#"{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}}"#;
    let two = format!("{object}\n{object}\n");
    assert_eq!(read(&two, true).unwrap().len(), 2);
    assert_eq!(yaml(&two).len(), 2);
    assert_eq!(
        yaml("{kind: Service, apiVersion: v1, metadata: {name: a}}").len(),
        1
    );
}

#[test]
fn text_without_objects_is_fine() {
    for text in ["", "\n", "# nothing\n", "---\n---\n", "\u{feff}"] {
        assert_eq!(yaml(text), [""; 0], "{text:?}");
    }
}

#[test]
fn yaml_and_json_mean_the_same() {
    let mut fresh = Vec::new();
    let mut converter = Converter::new("node-1");
    let json = r#"{"apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"clusterIP": "10.96.0.1", "ports": [{"port": 80}]}}"#;
    parse(json, true, &mut converter, &mut |event| fresh.push(event)).unwrap();
    parse(SERVICE, false, &mut converter, &mut |event| {
        fresh.push(event);
    })
    .unwrap();
    assert_eq!(fresh[0], fresh[1]);
    let name = ObjectName {
        namespace: "shop".into(),
        name: "web".into(),
    };
    assert!(matches!(&fresh[0], Event::Service(found, Some(_)) if *found == name));
}

#[test]
fn errors_tell_document_line_object_and_field() {
    let wrong = SERVICE.replace("port: 80", "port: eighty");
    assert_eq!(
        error(&format!("{SERVICE}---\n{wrong}"), false),
        "document 2, line 5: Service shop/web: spec.ports[0].port: \
         invalid type: string \"eighty\", expected i32"
    );
    let json = "{\"kind\": \"List\", \"items\": [\n{\"kind\": \"Service\",\n\"metadata\": {\"name\": 7}}]}";
    assert_eq!(
        error(json, true),
        "document 1, line 3: Service default/(without a name): metadata.name: \
         invalid type: integer `7`, expected a string"
    );
    let syntax = error(&format!("{SERVICE}---\na: [1\nb: 2\n"), false);
    assert!(syntax.starts_with("document 2, line "), "{syntax}");
    let syntax = error("{\"kind\":\n\"Service\",,}", true);
    assert!(syntax.starts_with("document 1, line 2: "), "{syntax}");
    assert_eq!(
        error("just text", false),
        "document 1, line 1: invalid type: string \"just text\", expected struct Head"
    );
    assert_eq!(
        error("a: 1", false),
        "document 1, line 1: this is no Kubernetes object: it has no kind"
    );
}

//! IP families and cluster IPs of a Service that is not an ExternalName.

use std::net::IpAddr;

use serde_json::{Value, json};

use crate::apiserver::{
    allocator::Allocator,
    object::{Key, unset},
};

/// A refused field and why.
pub(super) type Refusal = (&'static str, String);

pub(super) struct Choice<'a> {
    pub(super) key: &'a Key,
    pub(super) before: Option<&'a Value>,
    pub(super) allocator: &'a mut Allocator,
}

/// Sets `clusterIP`, `clusterIPs`, `ipFamilies` and `ipFamilyPolicy`.
pub(super) fn fill(spec: &mut Value, choice: &mut Choice<'_>) -> Result<(), Refusal> {
    let given = given_addresses(spec)?;
    let headless = given.first().is_some_and(|ip| ip == "None");
    let policy = policy(spec, headless)?;
    let families = families(spec, &policy, &given, headless, choice.before)?;
    let addresses = if headless {
        vec!["None".to_owned()]
    } else {
        cluster_ips(&families, &given, choice.key, choice.allocator)?
    };
    if let Some(old) = choice.before.map(|old| &old["spec"]["clusterIP"])
        && !unset(old)
        && *old != addresses[0].as_str()
    {
        return Err(("spec.clusterIP", "field is immutable".into()));
    }
    spec["clusterIP"] = json!(addresses[0]);
    spec["clusterIPs"] = json!(addresses);
    spec["ipFamilies"] = json!(families.iter().map(|v4| name(*v4)).collect::<Vec<_>>());
    spec["ipFamilyPolicy"] = json!(policy);
    Ok(())
}

fn name(ipv4: bool) -> &'static str {
    if ipv4 { "IPv4" } else { "IPv6" }
}

/// `clusterIPs`, or `clusterIP` alone; the two must agree.
fn given_addresses(spec: &Value) -> Result<Vec<String>, Refusal> {
    let first = spec["clusterIP"].as_str().unwrap_or_default();
    let mut all = strings(&spec["clusterIPs"]);
    if all.is_empty() && !first.is_empty() {
        all.push(first.to_owned());
    }
    if !first.is_empty() && all[0] != first {
        return Err((
            "spec.clusterIPs",
            "first value must match `clusterIP`".into(),
        ));
    }
    Ok(all)
}

fn strings(list: &Value) -> Vec<String> {
    list.as_array()
        .into_iter()
        .flatten()
        .filter_map(|s| s.as_str().map(str::to_owned))
        .collect()
}

fn policy(spec: &Value, headless: bool) -> Result<String, Refusal> {
    match spec["ipFamilyPolicy"].as_str() {
        Some(policy @ ("SingleStack" | "PreferDualStack" | "RequireDualStack")) => {
            Ok(policy.to_owned())
        }
        // Headless without selector: whoever writes the endpoints decides the families.
        None | Some("")
            if headless
                && spec["selector"]
                    .as_object()
                    .is_none_or(serde_json::Map::is_empty) =>
        {
            Ok("RequireDualStack".to_owned())
        }
        None | Some("") => Ok("SingleStack".to_owned()),
        Some(other) => Err(("spec.ipFamilyPolicy", format!("{other:?}: unsupported"))),
    }
}

/// Families in order, true for IPv4.
fn families(
    spec: &Value,
    policy: &str,
    given: &[String],
    headless: bool,
    before: Option<&Value>,
) -> Result<Vec<bool>, Refusal> {
    let mut families = Vec::new();
    for family in strings(&spec["ipFamilies"]) {
        match family.as_str() {
            "IPv4" => families.push(true),
            "IPv6" => families.push(false),
            _ => return Err(("spec.ipFamilies", format!("{family:?}: unsupported"))),
        }
    }
    if families.is_empty() && !headless {
        for ip in given {
            let ip: IpAddr = ip
                .parse()
                .map_err(|_| ("spec.clusterIPs", format!("{ip:?}: not an IP")))?;
            families.push(ip.is_ipv4());
        }
    }
    if families.is_empty() {
        families.push(true);
    }
    if policy != "SingleStack" && families.len() == 1 {
        families.push(!families[0]);
    }
    if policy == "SingleStack" && families.len() == 2 {
        // A downgrade from dual-stack keeps the primary family.
        let was_dual = before.is_some_and(|old| strings(&old["spec"]["ipFamilies"]).len() == 2);
        if !was_dual {
            return Err((
                "spec.ipFamilyPolicy",
                "\"SingleStack\": must be 'RequireDualStack' or \
                'PreferDualStack' when multiple IP families are specified"
                    .into(),
            ));
        }
        families.truncate(1);
    }
    if families.len() > 2 || (families.len() == 2 && families[0] == families[1]) {
        return Err(("spec.ipFamilies", "at most one of each family".into()));
    }
    Ok(families)
}

fn cluster_ips(
    families: &[bool],
    given: &[String],
    key: &Key,
    allocator: &mut Allocator,
) -> Result<Vec<String>, Refusal> {
    let mut chosen = Vec::new();
    for (index, ipv4) in families.iter().enumerate() {
        let ip = match given.get(index) {
            Some(text) => {
                let ip: IpAddr = text
                    .parse()
                    .map_err(|_| ("spec.clusterIPs", format!("{text:?}: not an IP")))?;
                if ip.is_ipv4() != *ipv4 {
                    return Err((
                        "spec.clusterIPs",
                        format!("{text:?}: expected an {} value", name(*ipv4)),
                    ));
                }
                if !allocator.address_is_free(ip, key) {
                    return Err((
                        "spec.clusterIPs",
                        format!(
                            "{text:?}: failed to allocate IP {text}: provided IP is already allocated"
                        ),
                    ));
                }
                ip
            }
            None => allocator.choose_address(*ipv4).ok_or_else(|| {
                (
                    "spec.clusterIPs",
                    format!("no free {} address", name(*ipv4)),
                )
            })?,
        };
        chosen.push(ip.to_string());
    }
    Ok(chosen)
}

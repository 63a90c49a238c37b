//! The fewest writes that bring the slices of a Service to what they should be. Pure.

use super::views::{Endpoint, Port, Slice};
use coracle_client::views::Meta;
use std::collections::BTreeMap;

/// Endpoints per slice.
pub(super) const MOST: usize = 100;

/// What should be: endpoints by address type and ports.
pub(super) type Wanted = BTreeMap<(String, Vec<Port>), Vec<Endpoint>>;

/// One write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Write {
    Create(Slice),
    Update(Slice),
    Delete(Meta),
}

/// The writes, from the slices there are. `labels` belong on every slice; each address type in `families` keeps one
/// empty slice when it has no endpoints, so that readers know that the Service was seen.
pub(super) fn plan(
    existing: Vec<Slice>,
    mut wanted: Wanted,
    families: &[String],
    labels: &BTreeMap<String, String>,
) -> Vec<Write> {
    for family in families {
        if !wanted.keys().any(|(it, _)| it == family) {
            wanted.insert((family.clone(), Vec::new()), Vec::new());
        }
    }
    let mut groups: BTreeMap<(String, Vec<Port>), Vec<Slice>> = BTreeMap::new();
    for slice in existing {
        let mut ports = slice.ports.clone();
        ports.sort();
        groups.entry((slice.address_type.clone(), ports)).or_default().push(slice);
    }
    let mut writes = Vec::new();
    for (key, endpoints) in wanted {
        let there = groups.remove(&key).unwrap_or_default();
        let empty = Slice { address_type: key.0, ports: key.1, ..Slice::default() };
        writes.extend(fill(there, endpoints, labels, &empty));
    }
    for slice in groups.into_values().flatten() {
        writes.push(Write::Delete(slice.metadata));
    }
    writes
}

/// Writes for the slices of one address type and one set of ports.
fn fill(
    there: Vec<Slice>,
    mut wanted: Vec<Endpoint>,
    labels: &BTreeMap<String, String>,
    empty: &Slice,
) -> Vec<Write> {
    // What stays, stays where it is.
    let mut slices = Vec::new();
    for before in there {
        let mut after = before.clone();
        after.metadata.labels.clone_from(labels);
        after.endpoints.clear();
        for endpoint in &before.endpoints {
            if let Some(index) = wanted.iter().position(|it| is_same_place(it, endpoint)) {
                after.endpoints.push(wanted.swap_remove(index));
            }
        }
        slices.push((before, after));
    }
    wanted.sort_by(|a, b| a.addresses.cmp(&b.addresses));
    // What is new goes where a write happens anyway, the fullest first; then where there is room.
    slices.sort_by_key(|(before, after)| (before == after, std::cmp::Reverse(after.endpoints.len())));
    let mut left = wanted.into_iter();
    for (_, after) in &mut slices {
        let room = MOST.saturating_sub(after.endpoints.len());
        after.endpoints.extend(left.by_ref().take(room));
    }
    let mut writes = Vec::new();
    let used = slices.iter().filter(|(_, after)| !after.endpoints.is_empty()).count();
    let mut spare_kept = used > 0 || left.len() > 0;
    for (before, after) in slices {
        if after.endpoints.is_empty() && spare_kept {
            writes.push(Write::Delete(before.metadata));
        } else {
            spare_kept |= after.endpoints.is_empty();
            if before != after {
                writes.push(Write::Update(after));
            }
        }
    }
    let rest: Vec<_> = left.collect();
    let chunks: Vec<_> = if rest.is_empty() && !spare_kept {
        vec![vec![]]
    } else {
        rest.chunks(MOST).map(<[Endpoint]>::to_vec).collect()
    };
    for endpoints in chunks {
        let mut slice = Slice { endpoints, ..empty.clone() };
        slice.metadata.labels.clone_from(labels);
        writes.push(Write::Create(slice));
    }
    writes
}

fn is_same_place(a: &Endpoint, b: &Endpoint) -> bool {
    let uid = |it: &Endpoint| it.target_ref.as_ref().map(|target| target.uid.clone());
    a.addresses == b.addresses && uid(a) == uid(b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoints::views::{Conditions, TargetRef};

    /// `a` ready, `-a` not ready.
    fn endpoint(text: &str) -> Endpoint {
        let name = text.trim_start_matches('-');
        Endpoint {
            addresses: vec![name.into()],
            conditions: Conditions { ready: !text.starts_with('-'), ..Conditions::default() },
            target_ref: Some(TargetRef { uid: name.into(), ..TargetRef::default() }),
            ..Endpoint::default()
        }
    }

    fn endpoints(text: &str) -> Vec<Endpoint> {
        text.split(',').filter(|it| !it.is_empty()).map(endpoint).collect()
    }

    fn ports(text: &str) -> Vec<Port> {
        let port = |text: &str| Port { port: text.parse().unwrap(), ..Port::default() };
        text.split('+').filter(|it| !it.is_empty()).map(port).collect()
    }

    fn labels() -> BTreeMap<String, String> {
        BTreeMap::from([("l".to_owned(), "1".to_owned())])
    }

    /// `name:ports:endpoints`
    fn slices(text: &str) -> Vec<Slice> {
        let slice = |text: &str| {
            let parts: Vec<_> = text.split(':').collect();
            let mut slice = Slice {
                address_type: "IPv4".into(),
                ports: ports(parts[1]),
                endpoints: endpoints(parts[2]),
                ..Slice::default()
            };
            slice.metadata.name = parts[0].into();
            slice.metadata.labels = labels();
            slice
        };
        text.split_whitespace().map(slice).collect()
    }

    /// Wanted as `ports:endpoints`.
    fn check(existing: &str, wanted: &str, want: &str) {
        let wanted = wanted.split_whitespace().map(|text| {
            let (group, list) = text.split_once(':').unwrap();
            (("IPv4".to_owned(), ports(group)), endpoints(list))
        });
        let writes = plan(slices(existing), wanted.collect(), &["IPv4".into()], &labels());
        let shown = |list: &[Endpoint]| {
            let show =
                |it: &Endpoint| format!("{}{}", if it.conditions.ready { "" } else { "-" }, it.addresses[0]);
            list.iter().map(show).collect::<Vec<_>>().join(",")
        };
        let group =
            |slice: &Slice| slice.ports.iter().map(|it| it.port.to_string()).collect::<Vec<_>>().join("+");
        let text = |write: &Write| match write {
            Write::Create(slice) => format!("new:{}:{}", group(slice), shown(&slice.endpoints)),
            Write::Update(slice) => {
                format!("{}:{}:{}", slice.metadata.name, group(slice), shown(&slice.endpoints))
            }
            Write::Delete(meta) => format!("delete {}", meta.name),
        };
        assert_eq!(writes.iter().map(text).collect::<Vec<_>>().join("; "), want, "{existing}");
    }

    #[test]
    fn writes_are_few() {
        check("", "80:a,b", "new:80:a,b");
        check("s:80:a,b", "80:b,a", "");
        check("s:80:a,b", "80:a,-b", "s:80:a,-b");
        check("s:80:a,b", "80:a,c", "s:80:a,c");
        check("s:80:a t:80:b", "80:a,b,c", "s:80:a,c");
        check("s:80:a t:80:b", "80:a,-b,c", "t:80:-b,c");
        check("s:80:a t:80:b", "80:a", "delete t");
        check("s:80:a", "80:a 81:b", "new:81:b");
        check("s:80:a", "81:a", "new:81:a; delete s");
    }

    #[test]
    fn an_empty_service_keeps_one_empty_slice() {
        check("", "", "new::");
        check("s::", "", "");
        check("s::", "80:a", "new:80:a; delete s");
        check("s:80:a", "", "new::; delete s");
        check("s:: t::", "", "delete t");
    }

    #[test]
    fn slices_are_not_overfilled() {
        let many =
            |from: usize, to: usize| (from..to).map(|it| format!("e{it:03}")).collect::<Vec<_>>().join(",");
        let sizes = |existing: &str, wanted: &str| -> Vec<usize> {
            let wanted = BTreeMap::from([(("IPv4".to_owned(), ports("80")), endpoints(wanted))]);
            let size = |write: &Write| match write {
                Write::Create(slice) | Write::Update(slice) => slice.endpoints.len(),
                Write::Delete(_) => 0,
            };
            plan(slices(existing), wanted, &[], &labels()).iter().map(size).collect()
        };
        assert_eq!(sizes("", &many(0, 250)), [100, 100, 50]);
        assert_eq!(sizes(&format!("s:80:{}", many(0, 100)), &many(0, 101)), [1]);
        assert_eq!(sizes(&format!("s:80:{}", many(0, 60)), &many(0, 130)), [100, 30]);
    }

    #[test]
    fn changed_labels_are_written() {
        let mut there = slices("s:80:a");
        there[0].metadata.labels.clear();
        let wanted = BTreeMap::from([(("IPv4".to_owned(), ports("80")), endpoints("a"))]);
        let writes = plan(there, wanted, &[], &labels());
        assert!(matches!(&writes[..], [Write::Update(slice)] if slice.metadata.labels == labels()));
    }
}

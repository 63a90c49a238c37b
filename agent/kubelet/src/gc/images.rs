//! Which images may go, and when: pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use coracle_cri::proto as v1;
use jiff::Timestamp;

use crate::config::ImageSettings;
use crate::image::normalize;
use crate::pod;

/// What is remembered of an image. Losing it makes images older than they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Known {
    /// When it was first seen; none: it was there before us.
    pub first_seen: Option<Timestamp>,
    /// When it was last seen in use.
    pub last_used: Option<Timestamp>,
}

/// An image that nobody needs now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unused {
    pub id: String,
    /// For people.
    pub name: String,
    pub size: u64,
    pub known: Known,
}

/// Size of the images' file system, and what is left of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Space {
    pub capacity: u64,
    pub available: u64,
}

/// Ids of the images that are meant by `names`: by id, tag, digest, or as a user writes it.
pub(super) fn in_use(images: &[v1::Image], names: &BTreeSet<String>) -> BTreeSet<String> {
    let whole: BTreeSet<String> = names.iter().filter_map(|it| normalize(it)).map(|it| full(&it)).collect();
    let meant = |it: &v1::Image| {
        names.contains(&it.id)
            || it.repo_tags.iter().chain(&it.repo_digests).any(|name| {
                names.contains(name) || whole.contains(name.as_str()) || whole.contains(&full(name))
            })
    };
    images.iter().filter(|it| meant(it)).map(|it| it.id.clone()).collect()
}

/// With its registry.
fn full(image: &str) -> String {
    let repository = crate::image::repository(image);
    let rest = image.find(['@']).or_else(|| {
        let slash = image.rfind('/').map_or(0, |it| it + 1);
        image[slash..].find(':').map(|it| slash + it)
    });
    format!("{repository}{}", rest.map_or("", |at| &image[at..]))
}

/// Brings what is known up to date with what is there.
pub(super) fn learn(
    known: &mut BTreeMap<String, Known>,
    images: &[v1::Image],
    in_use: &BTreeSet<String>,
    first_look: bool,
    now: Timestamp,
) {
    let there: BTreeSet<&str> = images.iter().map(|it| it.id.as_str()).collect();
    known.retain(|id, _| there.contains(id.as_str()));
    for image in images {
        let new = Known { first_seen: (!first_look).then_some(now), last_used: None };
        let entry = known.entry(image.id.clone()).or_insert(new);
        if in_use.contains(&image.id) {
            entry.last_used = Some(now);
        }
    }
}

/// Images that may go, the one that was used longest ago first.
pub(super) fn unused(
    known: &BTreeMap<String, Known>,
    images: &[v1::Image],
    in_use: &BTreeSet<String>,
) -> Vec<Unused> {
    let mut unused: Vec<Unused> = images
        .iter()
        .filter(|it| !it.pinned && !in_use.contains(&it.id) && !is_local(it))
        .map(|it| Unused {
            id: it.id.clone(),
            name: it.repo_tags.first().or_else(|| it.repo_digests.first()).unwrap_or(&it.id).clone(),
            size: it.size,
            known: known.get(&it.id).copied().unwrap_or_default(),
        })
        .collect();
    unused.sort_by_key(|it| (it.known.last_used, it.known.first_seen, it.id.clone()));
    unused
}

/// Whether an image was made or brought here under a name without a registry: it could never be had again.
fn is_local(image: &v1::Image) -> bool {
    image.repo_tags.iter().any(|it| it.starts_with("localhost/"))
}

/// Whether an image was not used for longer than `imageMaximumGCAge`. What was there before `began` counts from then:
/// a restart forgets when images were used.
pub(super) fn is_too_old(image: &Unused, settings: &ImageSettings, began: Timestamp, now: Timestamp) -> bool {
    let since = image.known.last_used.or(image.known.first_seen).unwrap_or(began);
    settings.gc_max_age > Duration::ZERO && pod::since(now, since.max(began)) > settings.gc_max_age
}

/// Whether an image has been there for `imageMinimumGCAge`.
pub(super) fn is_old_enough(image: &Unused, settings: &ImageSettings, now: Timestamp) -> bool {
    image.known.first_seen.is_none_or(|it| pod::since(now, it) >= settings.gc_min_age)
}

/// Per cent of the file system that are used.
pub(super) fn used_percent(space: Space) -> u64 {
    let available = u128::from(space.available.min(space.capacity));
    let free = available * 100 / u128::from(space.capacity.max(1));
    100 - u64::try_from(free).unwrap_or(100)
}

/// How many bytes have to go, if any.
pub(super) fn to_free(space: Space, settings: &ImageSettings) -> Option<u64> {
    if settings.gc_high_percent >= 100 || used_percent(space) < u64::from(settings.gc_high_percent) {
        return None;
    }
    let wanted = u128::from(space.capacity) * u128::from(100 - settings.gc_low_percent) / 100;
    let wanted = u64::try_from(wanted).unwrap_or(u64::MAX);
    Some(wanted.saturating_sub(space.available)).filter(|it| *it > 0)
}

/// `26.4 GiB`.
pub(super) fn human(bytes: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "one digit after the point is shown")]
    let mut size = bytes as f64;
    let mut unit = "B";
    for larger in ["KiB", "MiB", "GiB", "TiB", "PiB"] {
        if size < 1024.0 {
            break;
        }
        size /= 1024.0;
        unit = larger;
    }
    if unit == "B" { format!("{bytes} B") } else { format!("{size:.1} {unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn image(id: &str, tag: &str, pinned: bool) -> v1::Image {
        v1::Image { id: id.into(), repo_tags: vec![tag.into()], size: 10, pinned, ..Default::default() }
    }

    fn settings() -> ImageSettings {
        ImageSettings {
            gc_min_age: Duration::from_secs(120),
            gc_max_age: Duration::from_secs(3600),
            gc_high_percent: 85,
            gc_low_percent: 80,
            ..ImageSettings::default()
        }
    }

    #[test]
    fn names_mean_images() {
        let images = [
            image("sha256:1", "docker.io/library/busybox:latest", false),
            image("sha256:2", "reg.example:5000/a:1", false),
            v1::Image {
                id: "sha256:3".into(),
                repo_digests: vec!["reg.example/b@sha256:0123456789abcdef0123456789abcdef".into()],
                ..Default::default()
            },
        ];
        let check = |name: &str, want: &[&str]| {
            let got = in_use(&images, &[name.to_owned()].into());
            assert_eq!(got.iter().map(String::as_str).collect::<Vec<_>>(), want, "{name}");
        };
        check("busybox", &["sha256:1"]);
        check("library/busybox:latest", &["sha256:1"]);
        check("busybox:1", &[]);
        check("reg.example:5000/a:1", &["sha256:2"]);
        check("reg.example:5000/a", &[]);
        check("sha256:2", &["sha256:2"]);
        check("reg.example/b@sha256:0123456789abcdef0123456789abcdef", &["sha256:3"]);
    }

    #[test]
    fn the_one_used_longest_ago_goes_first() {
        let images = [
            image("used", "a:1", false),
            image("late", "b:1", false),
            image("never", "c:1", false),
            image("pinned", "d:1", true),
            image("early", "e:1", false),
            image("before", "f:1", false),
            image("local", "localhost/g:1", false),
        ];
        let mut known = BTreeMap::new();
        learn(&mut known, &images[5..6], &BTreeSet::new(), true, at(0));
        learn(&mut known, &images, &["early".to_owned()].into(), false, at(10));
        learn(&mut known, &images, &["late".to_owned(), "used".to_owned()].into(), false, at(20));
        let order = unused(&known, &images, &["used".to_owned()].into());
        let ids: Vec<&str> = order.iter().map(|it| it.id.as_str()).collect();
        assert_eq!(ids, ["before", "never", "early", "late"]);
        let young: Vec<&str> = order
            .iter()
            .filter(|it| !is_old_enough(it, &settings(), at(100)))
            .map(|it| it.id.as_str())
            .collect();
        assert_eq!(young, ["never", "early", "late"]);
        assert!(order.iter().all(|it| is_old_enough(it, &settings(), at(130))));
        learn(&mut known, &images[..1], &BTreeSet::new(), false, at(30));
        assert_eq!(known.len(), 1);
    }

    #[test]
    fn age_counts_from_the_last_use() {
        let check = |first: Option<i64>, used: Option<i64>, now: i64, want: bool| {
            let known = Known { first_seen: first.map(at), last_used: used.map(at) };
            let image = Unused { id: "i".into(), name: "i".into(), size: 1, known };
            assert_eq!(is_too_old(&image, &settings(), at(0), at(now)), want, "{first:?} {used:?} {now}");
        };
        check(None, None, 3600, false);
        check(None, None, 3601, true);
        check(Some(10), None, 3605, false);
        check(Some(10), None, 3611, true);
        check(None, Some(1000), 4600, false);
        check(None, Some(1000), 4601, true);
        let never = ImageSettings { gc_max_age: Duration::ZERO, ..settings() };
        let image = Unused { id: "i".into(), name: "i".into(), size: 1, known: Known::default() };
        assert!(!is_too_old(&image, &never, at(0), at(1_000_000)));
    }

    #[test]
    fn thresholds() {
        let check = |available: u64, want: Option<u64>| {
            assert_eq!(to_free(Space { capacity: 1000, available }, &settings()), want, "{available}");
        };
        check(1000, None);
        check(160, None);
        check(151, Some(49)); // whole per cent, as upstream counts
        check(150, Some(50));
        check(0, Some(200));
        check(2000, None);
        let never = ImageSettings { gc_high_percent: 100, ..settings() };
        assert_eq!(to_free(Space { capacity: 1000, available: 0 }, &never), None);
        assert_eq!(
            (human(1023), human(1 << 30), human(28_346_784_154)),
            ("1023 B".into(), "1.0 GiB".into(), "26.4 GiB".into())
        );
    }
}

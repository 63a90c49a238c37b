//! What becomes of an object, from what is known of its owners and dependants. Pure.

use super::Subject;
use super::lean::Lean;
use coracle_client::Propagation;

/// What is known of an owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    /// It is there and stays, or nothing is known against that.
    Solid,
    /// It waits for its dependants to go first.
    Waiting,
    /// The server does not have it.
    Absent,
}

/// An object that names another as its owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Dependant {
    pub(super) subject: Subject,
    /// Whether the owner's foreground deletion waits for it.
    pub(super) blocks: bool,
    /// Whether it waits for dependants of its own.
    pub(super) waits: bool,
}

/// One step.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    Nothing,
    /// Look at these dependants: their owner waits for them.
    Wake(Vec<Subject>),
    /// Take the owner from these, then let it go.
    Orphan(Vec<Subject>),
    /// Nothing blocks any more: let it go.
    Finish,
    /// Remove references to these owners, by uid; others hold it.
    Release(Vec<String>),
    Delete(Propagation),
}

pub(super) fn next(object: &Lean, owners: &[Owner], dependants: &[Dependant]) -> Next {
    if object.deleting {
        return while_deleting(object, dependants);
    }
    if owners.is_empty() {
        return Next::Nothing;
    }
    if owners.contains(&Owner::Solid) {
        let pairs = object.owners.iter().zip(owners);
        let lost: Vec<_> =
            pairs.filter(|(_, it)| **it != Owner::Solid).map(|(it, _)| it.uid.clone()).collect();
        return if lost.is_empty() { Next::Nothing } else { Next::Release(lost) };
    }
    if object.orphaning {
        return Next::Delete(Propagation::Orphan);
    }
    let waited_for = owners.contains(&Owner::Waiting);
    // In a circle each would wait for the other: the one met first goes at once.
    let circle = dependants.iter().any(|it| it.waits);
    if object.foreground || (waited_for && !dependants.is_empty() && !circle) {
        return Next::Delete(Propagation::Foreground);
    }
    Next::Delete(Propagation::Background)
}

fn while_deleting(object: &Lean, dependants: &[Dependant]) -> Next {
    if object.orphaning {
        return Next::Orphan(dependants.iter().map(|it| it.subject.clone()).collect());
    }
    if !object.foreground {
        return Next::Nothing;
    }
    if dependants.iter().any(|it| it.blocks) {
        Next::Wake(dependants.iter().map(|it| it.subject.clone()).collect())
    } else {
        Next::Finish
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coracle_client::views::OwnerRef;
    use coracle_client::{Key, Resource};

    /// Marks of the object: `d`eleting, `f`oreground, `o`rphan. Owners: `s`olid, `w`aiting, `a`bsent.
    /// Dependants: `b`locking, `n`ot blocking, `c`ircular.
    fn check(object: &str, owners: &str, dependants: &str, want: &str) {
        let reference =
            |(index, _): (usize, char)| OwnerRef { uid: index.to_string(), ..OwnerRef::default() };
        let object = Lean {
            deleting: object.contains('d'),
            foreground: object.contains('f'),
            orphaning: object.contains('o'),
            owners: owners.chars().enumerate().map(reference).collect(),
            ..Lean::default()
        };
        let owner = |it: char| match it {
            's' => Owner::Solid,
            'w' => Owner::Waiting,
            _ => Owner::Absent,
        };
        let owners: Vec<_> = owners.chars().map(owner).collect();
        let subject = Subject { resource: Resource::core("pods"), key: Key::new("a", "b") };
        let dependant =
            |it: char| Dependant { subject: subject.clone(), blocks: it != 'n', waits: it == 'c' };
        let dependants: Vec<_> = dependants.chars().map(dependant).collect();
        let got = match next(&object, &owners, &dependants) {
            Next::Nothing => String::new(),
            Next::Wake(all) => format!("wake {}", all.len()),
            Next::Orphan(all) => format!("orphan {}", all.len()),
            Next::Finish => "finish".into(),
            Next::Release(uids) => format!("release {}", uids.join(",")),
            Next::Delete(how) => format!("{how:?}"),
        };
        assert_eq!(got, want, "{object:?} {owners:?} {dependants:?}");
    }

    #[test]
    fn steps() {
        check("", "", "b", "");
        check("", "s", "", "");
        check("", "ss", "b", "");
        check("", "a", "", "Background");
        check("", "aa", "b", "Background");
        check("", "sa", "", "release 1");
        check("", "wsa", "", "release 0,2");
        check("", "w", "", "Background");
        check("", "w", "b", "Foreground");
        check("", "w", "n", "Foreground");
        check("", "w", "c", "Background");
        check("f", "a", "", "Foreground");
        check("o", "a", "b", "Orphan");
        check("d", "a", "b", "");
        check("df", "", "bn", "wake 2");
        check("df", "", "n", "finish");
        check("df", "s", "", "finish");
        check("do", "", "bn", "orphan 2");
        check("do", "", "", "orphan 0");
    }
}

//! Who the parts of the control plane are to the API server: upstream's names, to which its default roles are bound.

use coracle_api::auth::UserInfo;

/// The scheduler.
pub const SCHEDULER: &str = "system:kube-scheduler";

/// The controllers' shared informers.
pub const CONTROLLER_MANAGER: &str = "kube-controller-manager";

/// A user that has proved who it is, with these groups besides `system:authenticated`.
pub fn user(name: &str, groups: &[&str]) -> UserInfo {
    UserInfo::authenticated(name, groups.iter().map(|it| (*it).to_owned()))
}

/// A node's kubelet.
pub fn node(name: &str) -> UserInfo {
    user(&format!("system:node:{name}"), &["system:nodes"])
}

/// A controller, by its service account in `kube-system`; the manager itself has a user name instead.
pub fn controller(name: &str) -> UserInfo {
    if name == CONTROLLER_MANAGER {
        return user("system:kube-controller-manager", &[]);
    }
    UserInfo::service_account("kube-system", name, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_default_roles_are_bound_to() {
        for (user, name, group) in [
            (node("a"), "system:node:a", "system:nodes"),
            (
                controller("deployment-controller"),
                "system:serviceaccount:kube-system:deployment-controller",
                "system:serviceaccounts:kube-system",
            ),
            (controller(CONTROLLER_MANAGER), "system:kube-controller-manager", "system:authenticated"),
        ] {
            assert_eq!(user.username, name);
            assert!(user.is_in(group), "{name} in {group}");
        }
    }
}

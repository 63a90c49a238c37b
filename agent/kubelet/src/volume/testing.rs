//! Mounts for tests, seen by nobody else.

use std::path::Path;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

/// Runs `test` on a thread with mounts of its own and an empty folder; both are gone afterwards.
pub(crate) fn in_private_mounts(test: impl FnOnce(&Path) + Send) {
    std::thread::scope(|scope| {
        let body = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_FS).expect("needs CAP_SYS_ADMIN");
            let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
            mount(None::<&str>, "/", None::<&str>, private, None::<&str>).expect("private mounts");
            let dir = tempfile::tempdir().expect("folder");
            // A mount point of its own, so that nothing lies outside of it.
            mount(Some("t"), dir.path(), Some("tmpfs"), MsFlags::empty(), None::<&str>).expect("tmpfs");
            test(dir.path());
            nix::mount::umount2(dir.path(), nix::mount::MntFlags::MNT_DETACH).expect("unmount");
        });
        if let Err(panic) = body.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

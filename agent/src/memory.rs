//! How much memory this process takes for comfort, and how many threads.

/// Keeps the allocator from an arena per thread: each holds on to what it once used. Call before any thread starts.
pub fn tune() {
    #[cfg(target_env = "gnu")]
    {
        const ARENAS: libc::c_int = 2;
        const KEEP: libc::c_int = 256 * 1024;
        #[expect(unsafe_code, reason = "mallopt has no safe wrapper")]
        // SAFETY: mallopt only sets parameters of the allocator; no other thread exists yet.
        unsafe {
            libc::mallopt(libc::M_ARENA_MAX, ARENAS);
            libc::mallopt(libc::M_TRIM_THRESHOLD, KEEP);
            libc::mallopt(libc::M_MMAP_THRESHOLD, KEEP);
        }
    }
}

/// Threads that run tasks: as many as there are processors, four at most; a node agent waits more than it works.
pub fn workers() -> usize {
    std::thread::available_parallelism().map_or(2, |it| it.get().min(4))
}

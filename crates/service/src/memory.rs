//! What the C library's allocator keeps of freed memory.
//!
//! By itself it takes up to eight heaps for each processor, and keeps in them what a peak has used. A service that runs a thread
//! for each processor needs as many, and gives back what was large.
#![allow(unsafe_code, reason = "the allocator's settings have no safe interface")]

/// Bytes from which on an allocation is mapped for itself, and unmapped when it is freed; and free bytes at a heap's end from which
/// on they are given back. Named ones stay: the C library's own grow with the largest allocation that was ever freed.
#[cfg(target_env = "gnu")]
const LARGE: libc::c_int = 128 * 1024;

/// Bounds what the allocator keeps; to be called once, before other threads are started. Other C libraries than glibc have no such
/// settings.
pub fn keep_little() {
    #[cfg(target_env = "gnu")]
    {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let heaps = libc::c_int::try_from(processors).unwrap_or(libc::c_int::MAX);
        for (setting, value) in
            [(libc::M_ARENA_MAX, heaps), (libc::M_MMAP_THRESHOLD, LARGE), (libc::M_TRIM_THRESHOLD, LARGE)]
        {
            // SAFETY: it only changes numbers of the allocator. A value that it does not take leaves its own.
            unsafe {
                libc::mallopt(setting, value);
            }
        }
    }
}

/// Gives free memory back to the system, in the middle of heaps too. Takes as long as there are free pages: some milliseconds for
/// tens of megabytes.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it only looks after the allocator's own free memory.
    unsafe {
        libc::malloc_trim(0);
    }
}

//! How the C library keeps memory that is free.
//!
//! Only here code is `unsafe`: there is no other way to tell the C library from inside.

/// Few heaps, and large pieces given back at once.
///
/// By itself glibc gives each of our dozen threads a heap of its own, up to eight for a processor
/// core, and what is freed in one is of no use in the others. And once a large piece was freed, it
/// takes the next ones of that size from a heap too, where small ones then lie between them. Both
/// left as much again behind a flood as it took. What the environment says is stronger.
#[cfg(target_env = "gnu")]
#[allow(unsafe_code, reason = "nothing but numbers go in")]
pub fn limit() {
    use nix::libc::{M_ARENA_MAX, M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, mallopt};
    for (name, key, number) in [
        ("MALLOC_ARENA_MAX", M_ARENA_MAX, 2),
        ("MALLOC_MMAP_THRESHOLD_", M_MMAP_THRESHOLD, 128 << 10),
        ("MALLOC_TRIM_THRESHOLD_", M_TRIM_THRESHOLD, 1 << 20),
    ] {
        if std::env::var_os(name).is_none() {
            // SAFETY: called before any thread is started; it reads and keeps two numbers.
            unsafe { mallopt(key, number) };
        }
    }
}

/// Other C libraries are as they are.
#[cfg(not(target_env = "gnu"))]
pub fn limit() {}

/// Gives back to the system all that is free, so that what the process has is what it uses.
#[cfg(target_env = "gnu")]
#[allow(unsafe_code, reason = "nothing but a number goes in")]
pub fn give_back() {
    // SAFETY: it may be called by any thread at any time, and moves nothing that is in use.
    unsafe { nix::libc::malloc_trim(0) };
}

/// Other C libraries give back by themselves, or cannot be asked to.
#[cfg(not(target_env = "gnu"))]
pub fn give_back() {}

//! How many heaps the C library keeps side by side.

/// Two heaps at the most. By itself glibc gives each of our dozen threads one of its own, up to
/// eight for a processor core, and what is freed in one is of no use in the others: a flood left
/// half as much again behind. `MALLOC_ARENA_MAX` in the environment is stronger.
#[cfg(target_env = "gnu")]
#[allow(
    unsafe_code,
    reason = "the only way to say it from inside; nothing but a number goes in"
)]
pub(super) fn limit() {
    if std::env::var_os("MALLOC_ARENA_MAX").is_none() {
        // SAFETY: called before any thread is started; it reads and keeps two numbers.
        unsafe { nix::libc::mallopt(nix::libc::M_ARENA_MAX, 2) };
    }
}

/// Other C libraries have one heap.
#[cfg(not(target_env = "gnu"))]
pub(super) fn limit() {}

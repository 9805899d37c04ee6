//! Keeping memory between calls: what a tensor library frees and asks for again at every step.

use std::sync::atomic::Ordering;

/// Limits what convolutions of networks that are not being trained keep of transformed weights, 4 times the weights'
/// own size, all layers of the process together; 256 MiB until then. Only layers whose transforms fit into a second cache
/// keep them, 1 MiB each at most. Layers beyond the limit transform at every call: slower, with the same results. Layers that
/// have kept some already go on doing so. What inference plans have prepared does not count.
pub fn limit_kept_weights(bytes: usize) {
    crate::kept::budget().1.store(bytes, Ordering::Relaxed);
}

/// Bytes of transformed weights that are kept now.
pub fn kept_weights() -> usize {
    crate::kept::budget().0.load(Ordering::Relaxed)
}

/// Tells the C allocator to keep freed memory instead of giving every large block back to the system.
///
/// Tensors of a training step are a few MiB each; by default glibc maps and unmaps each of them, and the page faults
/// cost as much as the arithmetic of elementwise operators. Call it once at the start of a program. It changes a
/// process-wide setting, so libraries leave the decision to the program. Elsewhere than on glibc it does nothing and
/// returns `false`.
pub fn keep_freed_memory() -> bool {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        const KEEP: libc::c_int = 1 << 30;
        // SAFETY: mallopt is thread-safe in glibc and takes plain integers; a refused value returns 0.
        unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, KEEP) == 1
                && libc::mallopt(libc::M_TRIM_THRESHOLD, libc::c_int::MAX) == 1
                && libc::mallopt(libc::M_TOP_PAD, 64 << 20) == 1
        }
    }
    #[cfg(not(all(target_os = "linux", target_env = "gnu")))]
    false
}

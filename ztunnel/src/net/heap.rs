//! Memory that the process does not use any more, for the rest of the node.
//!
//! The system's allocator gives back what is free at the end of its heap. After a crowd of
//! connections that is next to nothing: something small and alive stands behind every hole.

/// Gives back to the system every page on which nothing is alive. Another thread that allocates
/// meanwhile waits, some milliseconds for a hundred megabytes, so that this is for the time after a
/// crowd. Does nothing where the C library has no such function.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    trim();
}

#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "no library has a safe call for it")]
fn trim() {
    // SAFETY: it takes no pointer, locks the heap by itself, and releases only pages that hold no
    // allocation. Whether there were any is of no interest.
    unsafe { nix::libc::malloc_trim(0) };
}

#[cfg(all(test, target_env = "gnu"))]
mod tests {
    use super::*;

    /// Pages of this process that are no file's.
    fn own_kib() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").expect("every process has a status");
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("with its memory");
        line.split_whitespace().next().and_then(|kib| kib.parse().ok()).expect("in kB")
    }

    #[test]
    fn what_is_free_between_what_is_alive_is_given_back() {
        const KIB: usize = 64 << 10;
        // Blocks of a kilobyte, and after each sixteen of them one that stays.
        let mut blocks: Vec<Box<[u8; 1024]>> = (0..KIB).map(|_| Box::new([1; 1024])).collect();
        let mut at = 0;
        blocks.retain(|_| {
            at += 1;
            at % 16 == 0
        });
        let before = own_kib();
        give_back();
        let after = own_kib();
        assert!(before - after > KIB as u64 / 2, "{before} kB before, {after} kB after");
        assert_eq!(blocks.len(), KIB / 16);
    }
}

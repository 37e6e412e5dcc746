//! What the system's allocator keeps of memory that is free, and what it gives back to the node.
//!
//! By itself it gives back what is free at the end of a heap, as soon as that is twice the largest
//! block that was ever freed, 512 kB here. A bulk stream frees a buffer and takes another thousands of
//! times a second: a third of its bytes went into pages that the kernel had just cleared. And after a crowd
//! of connections it gives back next to nothing: something small and alive stands behind every hole.

/// What is free at the end of a heap and is kept. There is a heap for each worker, and another few.
#[cfg(target_env = "gnu")]
const KEPT_BYTES: i32 = 4 << 20;
/// Larger blocks have pages of their own, which are given back as they are freed. No buffer is as large.
#[cfg(target_env = "gnu")]
const OWN_PAGES_BYTES: i32 = 1 << 20;

/// Has the allocator keep a little of what is free, so that buffers are not made of new pages each time. To be
/// called once, before there is much. Does nothing where the C library has no such function.
pub fn keep_a_little() {
    #[cfg(target_env = "gnu")]
    set();
}

#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "no library has a safe call for it")]
fn set() {
    // SAFETY: it takes no pointer and locks the heap by itself. A number that it refuses leaves it as it was.
    unsafe {
        nix::libc::mallopt(nix::libc::M_MMAP_THRESHOLD, OWN_PAGES_BYTES);
        nix::libc::mallopt(nix::libc::M_TRIM_THRESHOLD, KEPT_BYTES);
    }
}

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

    /// Page faults of this thread for which nothing had to be read.
    fn faults() -> u64 {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").expect("every thread has a stat");
        let fields = stat.rsplit_once(')').expect("its name is in brackets").1;
        fields.split_whitespace().nth(7).and_then(|minor| minor.parse().ok()).expect("a number")
    }

    #[test]
    fn a_buffer_that_is_freed_and_taken_again_is_not_made_of_new_pages() {
        keep_a_little();
        let again = || {
            for _ in 0..100 {
                // Three together are more than would be kept.
                let buffers: Vec<Vec<u8>> = (0..3).map(|n| vec![n + 1; 256 << 10]).collect();
                assert_eq!(std::hint::black_box(&buffers)[2][4096], 3);
            }
        };
        again();
        let before = faults();
        again();
        // Each time anew they would be 192 pages a hundred times.
        let more = faults() - before;
        assert!(more < 1000, "{more} pages were new");
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

//! What the process itself uses, read from `/proc/self`.

use std::fs;

/// Memory, time and files of this process.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Resources {
    pub resident_bytes: u64,
    pub virtual_bytes: u64,
    /// User and system time of all threads.
    pub cpu_seconds: f64,
    pub open_fds: u64,
    /// The soft limit; `None` if there is none.
    pub max_fds: Option<u64>,
    pub threads: u64,
}

impl Resources {
    /// Reads them. `None` where there is no `/proc`.
    pub fn read() -> Option<Self> {
        let status = fs::read_to_string("/proc/self/status").ok()?;
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        let ticks_per_second = clock_tick(&fs::read("/proc/self/auxv").ok()?)?;
        let limits = fs::read_to_string("/proc/self/limits").ok()?;
        #[expect(clippy::cast_precision_loss, reason = "a metric; 2^53 ticks are 3 million years")]
        let cpu_seconds = cpu_ticks(&stat)? as f64 / ticks_per_second as f64;
        Some(Self {
            resident_bytes: status_number(&status, "VmRSS:")? * KIB,
            virtual_bytes: status_number(&status, "VmSize:")? * KIB,
            cpu_seconds,
            open_fds: open_fds()?,
            max_fds: max_fds(&limits),
            threads: status_number(&status, "Threads:")?,
        })
    }
}

/// The number after `key` in `/proc/self/status`.
fn status_number(status: &str, key: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_whitespace().next()?.parse().ok()
}

/// `utime` and `stime` of `/proc/self/stat`, fields 14 and 15 of proc(5).
fn cpu_ticks(stat: &str) -> Option<u64> {
    // The second field is the program's name in parentheses and may hold spaces and parentheses.
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ').skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

/// `AT_CLKTCK` of the auxiliary vector, pairs of machine words (getauxval(3)).
fn clock_tick(auxv: &[u8]) -> Option<u64> {
    const AT_CLKTCK: usize = 17;
    const WORD: usize = size_of::<usize>();
    let word = |bytes: &[u8]| bytes.try_into().ok().map(usize::from_ne_bytes);
    let value = auxv.chunks_exact(2 * WORD).find_map(|pair| {
        let (key, value) = pair.split_at(WORD);
        (word(key)? == AT_CLKTCK).then(|| word(value))?
    })?;
    u64::try_from(value).ok().filter(|ticks| *ticks > 0)
}

fn open_fds() -> Option<u64> {
    // Linux 6.2 and later give the number as the size of the folder; walking 10000 entries to count
    // them would hold up the worker that answers the scrape.
    match fs::metadata("/proc/self/fd").ok()?.len() {
        0 => Some(fs::read_dir("/proc/self/fd").ok()?.count() as u64),
        count => Some(count),
    }
}

/// The soft limit of the line `Max open files  1024  4096  files`.
fn max_fds(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

const KIB: u64 = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_name_with_spaces_and_parentheses_does_not_shift_the_fields() {
        let stat = "42 (a) (b c) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20 0 7 0 123 4096 99";

        assert_eq!(cpu_ticks(stat), Some(200));
    }

    #[test]
    fn the_clock_tick_is_found_among_other_entries() {
        let words: [usize; 6] = [6, 4096, 17, 250, 0, 0];
        let auxv: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();

        assert_eq!(clock_tick(&auxv), Some(250));
        assert_eq!(clock_tick(&auxv[..8]), None);
    }

    #[test]
    fn limits_know_numbers_and_unlimited() {
        assert_eq!(max_fds("Max open files            1024      4096      files"), Some(1024));
        assert_eq!(max_fds("Max open files            unlimited unlimited files"), None);
    }

    #[test]
    fn this_process_uses_memory_threads_and_files() {
        let before = Resources::read().unwrap();
        let file = fs::File::open("/proc/self/status").unwrap();
        let after = Resources::read().unwrap();

        assert!(before.resident_bytes > 100 * KIB && before.virtual_bytes >= before.resident_bytes);
        assert!(before.threads >= 1);
        assert!(after.open_fds >= 3, "{after:?}");
        drop(file);
    }
}

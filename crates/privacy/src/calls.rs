//! What passed the sockets and files of a process that has no network, from the record of its system calls.
//!
//! Reads what `strace -f -xx` writes of reads and writes. Bytes of one descriptor and direction are one stream, in order.

use std::collections::BTreeMap;

/// What a process read, wrote, or was handed, one stream a descriptor and direction.
#[must_use]
pub fn streams(record: &str) -> Vec<Vec<u8>> {
    let mut streams: BTreeMap<(String, bool), Vec<u8>> = BTreeMap::new();
    for line in record.lines() {
        let call = line.trim_start_matches(|c: char| c.is_ascii_digit() || c == ' ');
        // A call that another thread interrupted is told in two lines; what was read stands in the second.
        let resumed = call.strip_prefix("<... ").and_then(|call| call.split_once(" resumed>"));
        let Some((name, arguments)) = resumed.or_else(|| call.split_once('(')) else { continue };
        let is_read = match name {
            "read" | "readv" | "recvfrom" | "recvmsg" | "pread64" | "preadv" => true,
            "write" | "writev" | "sendto" | "sendmsg" | "pwrite64" | "pwritev" | "pwritev2" => false,
            _ => continue,
        };
        let descriptor: String = arguments.chars().take_while(char::is_ascii_digit).collect();
        let bytes = streams.entry((descriptor, is_read)).or_default();
        for quoted in arguments.split('"').skip(1).step_by(2) {
            bytes
                .extend(quoted.split("\\x").skip(1).filter_map(|digits| u8::from_str_radix(digits, 16).ok()));
        }
    }
    streams.into_values().filter(|bytes| !bytes.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_and_directions_are_streams() {
        let record = "\
12 recvmsg(7, {msg_name=NULL, msg_iov=[{iov_base=\"\\x61\\x62\", iov_len=2}], msg_flags=0}, 0) = 2
12 writev(7, [{iov_base=\"\\x78\", iov_len=1}, {iov_base=\"\\x79\\x7a\", iov_len=2}], 2) = 3
12 read(7, \"\\x63\", 4096) = 1
12 close(7)                          = 0
12 pwrite64(5, \"\\x71\", 1, 0) = 1
12 read(9,  <unfinished ...>
13 write(7, \"\\x21\", 1) = 1
12 <... read resumed>\"\\x6c\\x61\", 64) = 2
12 +++ exited with 0 +++
";
        assert_eq!(streams(record), [b"la".to_vec(), b"q".to_vec(), b"xyz!".to_vec(), b"abc".to_vec()]);
    }
}

//! The system calls that a PCM's container may make, as the profile that the engine passes to the runtime.
//!
//! An allow-list written for this one program: what the runtime does between setting the filter and the PCM's first
//! instruction, what a static program does to start, and what the PCM does. No process is made, nothing but a Unix socket, no
//! file system is changed but for the socket's own file. Once it is started the PCM allows itself fewer still (`pcm`'s sandbox).

use serde_json::{Value, json};

/// Calls with any arguments.
const ALLOWED: &[&str] = &[
    // The runtime, a Go program: from the filter to the PCM it still runs for some moments.
    "execve",
    "execveat",
    "nanosleep",
    "clock_nanosleep",
    "sched_yield",
    "tgkill",
    "getpid",
    "gettid",
    "getppid",
    "rt_sigprocmask",
    "rt_sigaction",
    "fstat",
    "newfstatat",
    "statx",
    "readlinkat",
    "openat",
    "openat2",
    "faccessat2",
    "fchdir",
    "chdir",
    "getcwd",
    "prctl",
    "close_range",
    "dup3",
    "pipe2",
    "epoll_create1",
    "eventfd2",
    "getdents64",
    "setpgid",
    "capget",
    "fstatfs",
    // A static program that starts.
    "arch_prctl",
    "set_tid_address",
    "set_robust_list",
    "rseq",
    "prlimit64",
    "getrandom",
    "poll",
    "ppoll",
    "readlink",
    "sched_getaffinity",
    "uname",
    "getuid",
    "geteuid",
    "getgid",
    "getegid",
    // The PCM before it locks itself in: its socket, its signals, its filter.
    "bind",
    "listen",
    "unlink",
    "unlinkat",
    "umask",
    "signalfd4",
    "seccomp",
    "flock",
    "sched_setscheduler",
    "setrlimit",
    "getrlimit",
    "chmod",
    // The PCM at work.
    "accept4",
    "read",
    "readv",
    "pread64",
    "recvfrom",
    "recvmsg",
    "write",
    "writev",
    "pwrite64",
    "sendto",
    "shutdown",
    "close",
    "getsockopt",
    "setsockopt",
    "getsockname",
    "getpeername",
    "epoll_wait",
    "epoll_pwait",
    "epoll_ctl",
    "clock_gettime",
    "clock_getres",
    "gettimeofday",
    "restart_syscall",
    "brk",
    "mmap",
    "mprotect",
    "munmap",
    "mremap",
    "madvise",
    "futex",
    "ftruncate",
    "fdatasync",
    "fsync",
    "lseek",
    "ioctl",
    "fcntl",
    "sigaltstack",
    "rt_sigreturn",
    "exit",
    "exit_group",
];

/// `AF_UNIX`, the only kind of socket.
const UNIX: u64 = 1;

/// The profile as the engine takes it, in the format of Docker's own.
pub(super) fn profile() -> String {
    let architecture = |name: &str| json!({ "architecture": name, "subArchitectures": [] });
    let profile: Value = json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 1,
        "archMap": [architecture("SCMP_ARCH_X86_64"), architecture("SCMP_ARCH_AARCH64")],
        "syscalls": [
            { "names": ALLOWED, "action": "SCMP_ACT_ALLOW" },
            {
                "names": ["socket"],
                "action": "SCMP_ACT_ALLOW",
                "args": [{ "index": 0, "value": UNIX, "op": "SCMP_CMP_EQ" }],
            },
        ],
    });
    profile.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_leads_out_is_allowed() {
        let profile: Value = serde_json::from_str(&profile()).unwrap();
        assert_eq!(profile["defaultAction"], "SCMP_ACT_ERRNO");
        let allowed: Vec<&str> = profile["syscalls"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|rule| rule["names"].as_array().unwrap())
            .map(|name| name.as_str().unwrap())
            .collect();
        for call in [
            "connect",
            "socketpair",
            "clone",
            "clone3",
            "fork",
            "vfork",
            "ptrace",
            "process_vm_readv",
            "process_vm_writev",
            "kill",
            "tkill",
            "mount",
            "umount2",
            "pivot_root",
            "chroot",
            "setns",
            "unshare",
            "bpf",
            "perf_event_open",
            "keyctl",
            "add_key",
            "request_key",
            "io_uring_setup",
            "userfaultfd",
            "init_module",
            "finit_module",
            "kexec_load",
            "reboot",
            "open_by_handle_at",
            "name_to_handle_at",
            "memfd_create",
            "pidfd_open",
            "pidfd_getfd",
            "personality",
            "setuid",
            "setgid",
            "setresuid",
            "capset",
            "mknod",
            "mknodat",
            "symlinkat",
            "linkat",
            "renameat2",
            "mkdirat",
            "swapon",
        ] {
            assert!(!allowed.contains(&call), "{call}");
        }
        let mut sorted = allowed.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(sorted.len(), allowed.len(), "each once");
    }
}

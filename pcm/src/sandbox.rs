//! The sandbox of the process runtime: a list of the system calls that serving needs; all others fail.
//!
//! A broker that waits to be somebody's has a few calls more, to be handed its files and to lock itself in for good after that;
//! a filter can be added to, never taken away.
//!
//! What fails includes socket, connect, bind, open in all its forms, execve, fork, ptrace, process_vm_*, kill and its
//! relatives, mapping or making memory executable, and prctl: nothing can be undone from inside.

use seccompiler::{
    BpfProgram, Error, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};
use std::collections::BTreeMap;

/// System calls that serving needs, with any arguments.
const ALLOWED: &[libc::c_long] = &[
    // connections
    libc::SYS_accept4,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_recvfrom,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_sendto,
    libc::SYS_shutdown,
    libc::SYS_close,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    // waiting
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_ctl,
    libc::SYS_clock_gettime,
    libc::SYS_restart_syscall,
    // memory
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_futex,
    libc::SYS_getrandom,
    // the end
    libc::SYS_sigaltstack,
    libc::SYS_rt_sigreturn,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// What a journal does to files that are open already. None of these takes a path.
const ON_FILES: &[libc::c_long] =
    &[libc::SYS_pread64, libc::SYS_pwrite64, libc::SYS_ftruncate, libc::SYS_fdatasync, libc::SYS_lseek];

/// What waiting for an identity takes: being handed files, making the broker's poll, and the second lock.
const WAITING: &[libc::c_long] = &[
    libc::SYS_recvmsg,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    libc::SYS_ppoll,
    libc::SYS_epoll_create1,
];

/// Locks the calling thread in until it has an identity: all that serving with a journal needs, and what comes before. After
/// that [`install`] takes the rest.
///
/// # Errors
/// As [`install`].
pub fn install_waiting() -> Result<(), Error> {
    let mut rules = rules(true)?;
    rules.extend(WAITING.iter().map(|call| (*call, Vec::new())));
    let no_privileges = u64::from(libc::PR_SET_NO_NEW_PRIVS.unsigned_abs());
    rules.insert(libc::SYS_prctl, vec![argument(0, SeccompCmpOp::Eq, no_privileges)?]);
    rules.insert(
        libc::SYS_seccomp,
        vec![argument(0, SeccompCmpOp::Eq, libc::SECCOMP_SET_MODE_FILTER.into())?],
    );
    apply(rules)
}

/// Locks the calling thread in for good: no new privileges, and only what serving needs, with `with_files` also what
/// keeping a journal in open files needs. Before the first other thread that is the whole process.
///
/// # Errors
/// If the kernel has no seccomp filters, or refuses this one. Nothing is locked then, and one should not go on.
pub fn install(with_files: bool) -> Result<(), Error> {
    apply(rules(with_files)?)
}

fn apply(rules: Rules) -> Result<(), Error> {
    let arch = std::env::consts::ARCH.try_into()?;
    let denied = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let program: BpfProgram = SeccompFilter::new(rules, denied, SeccompAction::Allow, arch)?.try_into()?;
    seccompiler::apply_filter(&program)
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

fn rules(with_files: bool) -> Result<Rules, Error> {
    let on_files = ON_FILES.iter().filter(|_| with_files);
    let mut rules: Rules = ALLOWED.iter().chain(on_files).map(|call| (*call, Vec::new())).collect();
    let executable = u64::from(libc::PROT_EXEC.unsigned_abs());
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        rules.insert(call, vec![argument(2, SeccompCmpOp::MaskedEq(executable), 0)?]);
    }
    // Sockets are made non-blocking with one, descriptors are inspected with the other.
    rules.insert(libc::SYS_ioctl, vec![argument(1, SeccompCmpOp::Eq, libc::FIONBIO)?]);
    let commands = [libc::F_GETFD, libc::F_SETFD, libc::F_GETFL, libc::F_SETFL];
    let commands: Result<Vec<SeccompRule>, Error> = commands
        .iter()
        .map(|command| argument(1, SeccompCmpOp::Eq, u64::from(command.unsigned_abs())))
        .collect();
    rules.insert(libc::SYS_fcntl, commands?);
    Ok(rules)
}

/// A rule about one argument, counted from 0.
fn argument(index: u8, operator: SeccompCmpOp, value: u64) -> Result<SeccompRule, Error> {
    let condition = SeccompCondition::new(index, SeccompCmpArgLen::Dword, operator, value)?;
    Ok(SeccompRule::new(vec![condition])?)
}

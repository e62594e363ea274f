//! A PCM that has been taken over: in a container that the launcher made for a PCM, it tries what should not be possible and
//! tells how it went. `launcher_docker.rs` compiles this without Cargo, into one static file, and runs it outside, too, so that
//! it is seen that each attempt would succeed where nothing forbids it.
//!
//! It takes a PCM's arguments, answers the launcher as a PCM does, and everybody else one letter with lines of
//! `attempt error-number`, 0 for success, or `fact value`.

use std::ffi::{CStr, c_long};
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

unsafe extern "C" {
    fn syscall(number: c_long, ...) -> c_long;
    fn signal(number: i32, handler: usize) -> usize;
}

const SIGXFSZ: i32 = 25;
const IGNORED: usize = 1;
const HERE: c_long = -100;
const INET: c_long = 2;
const STREAM: c_long = 1;

/// A call, its number on each architecture (-1 where there is none), its arguments.
type Call<'a> = (&'a str, c_long, c_long, [c_long; 6]);

fn number(call: &Call<'_>) -> c_long {
    if cfg!(target_arch = "x86_64") { call.1 } else { call.2 }
}

fn pointer(text: &CStr) -> c_long {
    text.as_ptr() as c_long
}

/// What changes nothing that matters where it succeeds.
fn harmless(dir: &Path, attempt: &mut impl FnMut(&Call<'_>)) {
    let own = c_long::from(std::process::id());
    let in_dir = |name: &str| {
        std::ffi::CString::new(dir.join(name).into_os_string().into_encoded_bytes()).expect("no zero byte")
    };
    let (made, link) = (in_dir("made"), in_dir("link"));
    let mut pair = [0_i32; 2];
    let calls: &[Call<'_>] = &[
        ("socket-inet", 41, 198, [INET, STREAM, 0, 0, 0, 0]),
        ("socket-inet6", 41, 198, [10, STREAM, 0, 0, 0, 0]),
        ("socket-netlink", 41, 198, [16, 3, 0, 0, 0, 0]),
        ("socketpair", 53, 199, [1, STREAM, 0, (&raw mut pair) as c_long, 0, 0]),
        ("kill", 62, 129, [own, 0, 0, 0, 0, 0]),
        ("pidfd_open", 434, 434, [own, 0, 0, 0, 0, 0]),
        ("process_vm_readv", 310, 270, [own, 0, 0, 0, 0, 0]),
        ("memfd_create", 319, 279, [pointer(c"x"), 0, 0, 0, 0, 0]),
        ("personality", 135, 92, [0xFFFF_FFFF, 0, 0, 0, 0, 0]),
        ("mkdirat", 258, 34, [HERE, pointer(&made), 0o700, 0, 0, 0]),
        ("symlinkat", 266, 36, [pointer(c"/"), HERE, pointer(&link), 0, 0, 0]),
    ];
    calls.iter().for_each(attempt);
}

/// What must not be tried where it may succeed.
fn harmful(attempt: &mut impl FnMut(&Call<'_>)) {
    let calls: &[Call<'_>] = &[
        ("socket-packet", 41, 198, [17, 3, 0, 0, 0, 0]),
        ("socket-vsock", 41, 198, [40, STREAM, 0, 0, 0, 0]),
        ("connect", 42, 203, [0; 6]),
        ("fork", 57, -1, [0; 6]),
        ("vfork", 58, -1, [0; 6]),
        ("clone", 56, 220, [17, 0, 0, 0, 0, 0]),
        ("clone3", 435, 435, [0; 6]),
        ("ptrace", 101, 117, [0; 6]),
        ("process_vm_writev", 311, 271, [1, 0, 0, 0, 0, 0]),
        ("pidfd_getfd", 438, 438, [0; 6]),
        ("unshare-user", 272, 97, [0x1000_0000, 0, 0, 0, 0, 0]),
        ("unshare-net", 272, 97, [0x4000_0000, 0, 0, 0, 0, 0]),
        ("setns", 308, 268, [0; 6]),
        ("mount", 165, 40, [0; 6]),
        ("umount2", 166, 39, [0; 6]),
        ("open_tree", 428, 428, [0; 6]),
        ("move_mount", 429, 429, [0; 6]),
        ("fsopen", 430, 430, [0; 6]),
        ("pivot_root", 155, 41, [0; 6]),
        ("chroot", 161, 51, [pointer(c"/run"), 0, 0, 0, 0, 0]),
        ("setresuid", 117, 147, [0; 6]),
        ("setresgid", 119, 149, [0; 6]),
        ("setgroups", 116, 159, [0; 6]),
        ("capset", 126, 91, [0; 6]),
        ("bpf", 321, 280, [0; 6]),
        ("perf_event_open", 298, 241, [0; 6]),
        ("keyctl", 250, 219, [0; 6]),
        ("add_key", 248, 217, [0; 6]),
        ("io_uring_setup", 425, 425, [1, 0, 0, 0, 0, 0]),
        ("userfaultfd", 323, 282, [0; 6]),
        ("open_by_handle_at", 304, 265, [0; 6]),
        ("name_to_handle_at", 303, 264, [0; 6]),
        ("mknodat", 259, 33, [0; 6]),
        ("linkat", 265, 37, [0; 6]),
        ("renameat2", 316, 276, [0; 6]),
        ("fchownat", 260, 54, [0; 6]),
        ("init_module", 175, 105, [0; 6]),
        ("finit_module", 313, 273, [0; 6]),
        ("kexec_load", 246, 104, [0; 6]),
        ("reboot", 169, 142, [0; 6]),
        ("swapon", 167, 224, [0; 6]),
        ("syslog", 103, 116, [0; 6]),
        ("quotactl", 179, 60, [0; 6]),
        ("sethostname", 170, 161, [0; 6]),
        ("settimeofday", 164, 170, [0; 6]),
        ("iopl", 172, -1, [3, 0, 0, 0, 0, 0]),
        ("modify_ldt", 154, -1, [0; 6]),
    ];
    calls.iter().for_each(attempt);
}

fn calls(all: bool, dir: &Path) -> String {
    let mut told = String::new();
    let mut attempt = |call: &Call<'_>| {
        let [a, b, c, d, e, f] = call.3;
        // SAFETY: pointers are to what lives longer; zeros are refused by the calls themselves.
        let result = unsafe { syscall(number(call), a, b, c, d, e, f) };
        let error = match result {
            -1 => std::io::Error::last_os_error().raw_os_error().unwrap_or(-1),
            _ => 0,
        };
        let _ = writeln!(told, "{} {error}", call.0);
    };
    harmless(dir, &mut attempt);
    if all {
        harmful(&mut attempt);
    }
    told
}

/// What can be written, and how much of it.
fn writing(dir: &Path) -> String {
    let mut told = String::new();
    for path in [
        "/x",
        "/pcm",
        "/run/x",
        "/etc/hosts",
        "/dev/x",
        "/dev/shm/x",
        "/dev/mem",
        "/dev/kmsg",
        "/proc/sysrq-trigger",
        "/proc/sys/kernel/core_pattern",
        "/proc/1/oom_score_adj",
        "/sys/kernel/uevent_helper",
        "/sys/fs/cgroup/cgroup.procs",
    ] {
        let opened = fs::File::options().write(true).create(true).truncate(false).open(path);
        // Making oneself likelier to be killed first is everybody's right.
        let harm = opened
            .and_then(|mut file| if path.ends_with("oom_score_adj") { file.write(b"-1000") } else { Ok(0) });
        let _ = writeln!(told, "{path} {}", harm.err().map_or(0, |error| error.raw_os_error().unwrap_or(-1)));
    }
    // SAFETY: the signal of a file that became too long is not needed: the call tells it as well.
    unsafe { signal(SIGXFSZ, IGNORED) };
    let hog = dir.join("hog");
    let mut written = 0;
    if let Ok(mut file) = fs::File::create(&hog) {
        let block = vec![1; 1 << 20];
        while written < 64 {
            match file.write(&block) {
                Ok(count) if count == block.len() => written += 1,
                _ => break,
            }
        }
    }
    let _ = fs::remove_file(&hog);
    let _ = writeln!(told, "longest {written}");
    told
}

/// All memory that it can get, in MiB.
fn hoarding() -> String {
    let mut hoard: Vec<Vec<u8>> = Vec::new();
    while hoard.len() < 1_024 {
        hoard.push(vec![1; 1 << 20]);
    }
    format!("hoarded {}\n", hoard.len())
}

/// Everything that it can see of anybody else.
fn seeing() -> String {
    let mut told = String::new();
    let mut folders = vec![PathBuf::from("/")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let Ok(kind) = entry.file_type() else { continue };
            let path = entry.path();
            if kind.is_socket() {
                let _ = writeln!(told, "socket {}", path.display());
            } else if kind.is_dir() && !["/proc", "/sys"].map(Path::new).contains(&path.as_path()) {
                let _ = writeln!(told, "folder {}", path.display());
                folders.push(path);
            }
        }
    }
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().bytes().all(|byte| byte.is_ascii_digit()) {
            let _ = writeln!(told, "process {}", entry.file_name().to_string_lossy());
        }
    }
    for entry in fs::read_dir("/proc/self/fd").into_iter().flatten().flatten() {
        let target = fs::read_link(entry.path()).unwrap_or_default();
        let kind = target.to_string_lossy().split(':').next().unwrap_or_default().to_owned();
        let _ = writeln!(told, "open {kind}");
    }
    for path in ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/dev/sda", "/dev/vda", "/dev/mem"] {
        let mut byte = [0];
        let read = fs::File::open(path).and_then(|mut file| file.read(&mut byte)).unwrap_or(0);
        let _ = writeln!(told, "read {path} {read}");
    }
    for file in
        ["/proc/self/status", "/proc/self/mountinfo", "/proc/net/dev", "/proc/net/route", "/proc/net/unix"]
    {
        for line in fs::read_to_string(file).unwrap_or_default().lines() {
            let _ = writeln!(told, "{file} {line}");
        }
    }
    for (name, _) in std::env::vars() {
        let _ = writeln!(told, "variable {name}");
    }
    told
}

/// A call of the ABI with long registers and short pointers, which has numbers of its own.
fn by_another_abi() -> String {
    let call: Call<'_> = ("other-abi", 0x4000_0000 + 41, -1, [INET, STREAM, 0, 0, 0, 0]);
    // SAFETY: the call changes no memory.
    let result = unsafe { syscall(number(&call), INET, STREAM, 0) };
    format!("other-abi {}\n", if result < 0 { 1 } else { 0 })
}

/// A call by the gate of 32-bit programs, whose numbers are others: `socket` is 359.
#[cfg(target_arch = "x86_64")]
fn by_the_old_gate() -> String {
    let mut result: i64 = 359;
    // SAFETY: the call changes no memory; rbx is put back.
    unsafe {
        std::arch::asm!("xchg rbx, {first}", "int 0x80", "xchg rbx, {first}", first = inout(reg) INET => _,
            inout("rax") result, in("rcx") STREAM, in("rdx") 0, in("rsi") 0, in("rdi") 0);
    }
    format!("old-gate {}\n", if result < 0 { -result } else { 0 })
}

#[cfg(not(target_arch = "x86_64"))]
fn by_the_old_gate() -> String {
    "old-gate 1\n".to_owned()
}

/// Answers as a PCM that believes everything; the first byte of the preamble is read.
fn answer_the_launcher(stream: &UnixStream, name: &mut String) -> String {
    let mut reader = BufReader::new(stream);
    let mut head = [0; 7];
    if reader.read_exact(&mut head).is_err() {
        return String::new();
    }
    let length = u32::from_be_bytes([head[3], head[4], head[5], head[6]]);
    let mut preamble = vec![0; length as usize];
    let mut line = String::new();
    if reader.read_exact(&mut preamble).is_err() || reader.read_line(&mut line).is_err() {
        return String::new();
    }
    if let Some((_, rest)) = line.split_once("\"identity\":{\"name\":\"") {
        rest.split('"').next().unwrap_or_default().clone_into(name);
        return "{\"id\":1,\"ok\":{}}\n".to_owned();
    }
    if name.is_empty() {
        return "{\"id\":1,\"whose\":{\"name\":null}}\n".to_owned();
    }
    format!("{{\"id\":1,\"whose\":{{\"name\":\"{name}\"}}}}\n")
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let dir = arguments.iter().position(|argument| argument == "--dir").expect("--dir");
    let dir = PathBuf::from(&arguments[dir + 1]);
    let listener = UnixListener::bind(dir.join("s")).expect("a socket of its own");
    fs::set_permissions(dir.join("s"), fs::Permissions::from_mode(0o660)).expect("its mode");
    let mut name = String::new();
    for stream in listener.incoming() {
        let Ok(mut stream) = stream else { continue };
        let mut byte = [0];
        if stream.read(&mut byte).unwrap_or(0) == 0 {
            continue;
        }
        let answer = match byte[0] {
            b'O' => answer_the_launcher(&stream, &mut name),
            b'a' => calls(true, &dir),
            b'h' => calls(false, &dir),
            b'w' => writing(&dir),
            b'l' => seeing(),
            b'm' => hoarding(),
            b'g' => by_the_old_gate(),
            b'x' => by_another_abi(),
            _ => String::new(),
        };
        let _ = stream.write_all(answer.as_bytes());
    }
}

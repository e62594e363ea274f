//! Memory of a whole system: its services, the container engine, the PCMs, and what the kernel takes for them.

use std::fs;
use std::path::Path;

use anyhow::Context as _;

use crate::process;
use crate::results::float;
use crate::stack::{Runtime, Stack};

/// Programs of the container engine, by the name that the kernel shows.
const ENGINE: [&str; 2] = ["dockerd", "containerd"];

/// What stands between the engine and its containers.
const SHIM: &str = "containerd-shim";

/// Bytes by part.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Memory {
    /// PCMs that run.
    pub pcms: u64,
    /// Their proportional set sizes together.
    pub pcm_pss: f64,
    /// What of them is swapped out.
    pub pcm_swap: f64,
    /// Kernel memory of their cgroups; zero for processes.
    pub pcm_kernel: f64,
    /// All shims on this machine together.
    pub shims: f64,
    /// Gateway, launcher and the container engine; the DIdP runs elsewhere, as in the paper.
    gateway: f64,
    engine: f64,
}

impl Memory {
    /// Of a running system.
    ///
    /// # Errors
    /// Something ended meanwhile, or may not be looked at: PCMs are not dumpable, so that only root may.
    pub fn of(stack: &Stack) -> anyhow::Result<Memory> {
        let mut memory = Memory::default();
        for pid in stack.pcms()? {
            memory.pcms += 1;
            memory.pcm_pss +=
                float(process::pss_bytes(pid).context("the memory of a PCM; only root may look")?);
            memory.pcm_swap += float(process::swap_pss_bytes(pid)?);
            if stack.options.runtime == Runtime::Docker {
                memory.pcm_kernel += float(cgroup_kernel_bytes(pid)?);
            }
        }
        for (part, pid) in stack.services() {
            if part != "didp" {
                memory.gateway += float(process::pss_bytes(pid)?);
            }
        }
        if stack.options.runtime == Runtime::Docker {
            for pid in processes() {
                let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
                // A process may end between being listed and being looked at.
                let size = || process::pss_bytes(pid).map_or(0.0, float);
                if name.trim().starts_with(SHIM) {
                    memory.shims += size();
                } else if ENGINE.contains(&name.trim()) {
                    memory.engine += size();
                }
            }
        }
        Ok(memory)
    }

    /// Everything but PCMs and shims.
    #[must_use]
    pub fn services(&self) -> f64 {
        self.gateway + self.engine
    }
}

/// All process ids.
fn processes() -> Vec<u32> {
    let Ok(listed) = fs::read_dir("/proc") else { return Vec::new() };
    listed.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Kernel memory of a process's cgroup: version 2's `kernel`, version 1's `kmem.usage_in_bytes`.
fn cgroup_kernel_bytes(pid: u32) -> anyhow::Result<u64> {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).context("the cgroup of a PCM")?;
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let path = path.trim_start_matches('/');
        if controllers.is_empty() {
            let folder = Path::new("/sys/fs/cgroup").join(path);
            let Ok(text) = fs::read_to_string(folder.join("memory.stat")) else { continue };
            let kernel = text.lines().find_map(|line| line.strip_prefix("kernel ")?.trim().parse().ok());
            if let Some(kernel) = kernel {
                return Ok(kernel);
            }
        } else if controllers.split(',').any(|one| one == "memory") {
            let file = Path::new("/sys/fs/cgroup/memory").join(path).join("memory.kmem.usage_in_bytes");
            if let Some(kernel) = fs::read_to_string(file).ok().and_then(|text| text.trim().parse().ok()) {
                return Ok(kernel);
            }
        }
    }
    anyhow::bail!("the kernel memory of PCM {pid} is not counted: its cgroup has no memory controller")
}

/// The kernel's own memory, as its counters tell.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Kernel(f64);

impl Kernel {
    /// Unreclaimable slab, stacks, page tables, and pages of socket buffers.
    ///
    /// # Errors
    /// The counters cannot be read.
    pub fn now() -> anyhow::Result<Kernel> {
        let text = fs::read_to_string("/proc/meminfo").context("/proc/meminfo")?;
        let sum: u64 = ["SUnreclaim:", "KernelStack:", "PageTables:", "Percpu:"]
            .iter()
            .filter_map(|name| {
                let line = text.lines().find(|line| line.starts_with(name))?;
                line.split_whitespace().nth(1)?.parse::<u64>().ok()
            })
            .sum();
        let sockets = fs::read_to_string("/proc/net/sockstat").unwrap_or_default();
        let tcp = sockets.lines().find(|line| line.starts_with("TCP:")).and_then(|line| {
            line.split_whitespace().skip_while(|word| *word != "mem").nth(1)?.parse::<u64>().ok()
        });
        Ok(Kernel(float(sum * 1024 + tcp.unwrap_or(0) * 4096)))
    }

    /// What it grew by since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Kernel) -> f64 {
        self.0 - earlier.0
    }

    /// Whether this machine swaps.
    #[must_use]
    pub fn has_swap() -> bool {
        fs::read_to_string("/proc/swaps").is_ok_and(|text| text.lines().count() > 1)
    }
}

#[cfg(test)]
mod tests {
    use super::Kernel;

    #[test]
    fn the_kernel_tells_its_own_memory() {
        let now = Kernel::now().expect("this is Linux");
        assert!(now.0 > 1e6, "{now:?}");
        assert!(now.since(&now).abs() < 1e-9);
    }
}

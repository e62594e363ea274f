//! The firmware's board in QEMU: switched on and off, its console, its flash, its wire.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use device_client::{Record, SLOT_LEN, storage};
use tempfile::TempDir;
use testkit::device::Device;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// How long the board may take for anything: a handshake is seconds of arithmetic, on an emulator on a busy machine.
const PATIENCE: Duration = Duration::from_secs(180);

/// Bytes of a sector of its flash; each holds a slot.
const SECTOR: usize = 4096;

/// The folder that `cargo xtask firmware` put the firmware into; without it nothing can be tried.
#[must_use]
pub fn firmware() -> Option<PathBuf> {
    std::env::var_os("OAUTHING_FIRMWARE").map(PathBuf::from)
}

/// The emulator with a program in it, in the folder that holds its files; its serial line and its network have to be said.
fn qemu(program: &Path, folder: &Path) -> Command {
    let mut qemu = Command::new("qemu-system-xtensa");
    qemu.args(["-M", "kc705-nommu", "-cpu", "lx106", "-display", "none", "-monitor", "none", "-semihosting"])
        .arg("-kernel")
        .arg(program)
        .current_dir(folder)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    qemu
}

/// Runs a program without a network to its end, its serial line connected so, and gives its exit code and what it wrote.
///
/// # Errors
/// It cannot be started, or does not end.
pub async fn run(program: &Path, folder: &Path, serial: &str) -> anyhow::Result<(i32, String)> {
    let ends = qemu(program, folder).args(["-nic", "none", "-serial", serial]).output();
    let output = tokio::time::timeout(PATIENCE, ends).await.context("the program does not end")??;
    let code = output.status.code().context("QEMU was killed")?;
    Ok((code, String::from_utf8(output.stdout)?))
}

/// A board with a firmware in it. Dropping it cuts its power.
pub struct Board {
    program: PathBuf,
    dir: TempDir,
    counting: bool,
    running: Option<Running>,
    runs: u32,
}

struct Running {
    process: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    heard: Vec<String>,
}

/// What is in the flash of a device that was registered so.
///
/// # Errors
/// The answer is none that a device can live with.
pub fn record(device: &Device) -> anyhow::Result<Record> {
    let answer = serde_json::to_vec(device)?;
    device_client::oauth::read_registration(&answer)
        .map_err(|_| anyhow::anyhow!("no record can be made of the registration"))
}

impl Board {
    /// A board with the firmware `program`, whose flash holds `record`.
    ///
    /// # Errors
    /// Its folder cannot be made.
    pub fn new(program: &Path, record: &Record) -> anyhow::Result<Self> {
        let board = Self::with_flash(program, &[])?;
        board.flash_record(record)?;
        Ok(board)
    }

    /// A board with the firmware `program`, whose two sectors for the record hold `flash`.
    ///
    /// # Errors
    /// Its folder cannot be made.
    pub fn with_flash(program: &Path, flash: &[u8]) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("oa-board").tempdir()?;
        let board = Self { program: program.to_owned(), dir, counting: false, running: None, runs: 0 };
        board.set_flash(flash)?;
        Ok(board)
    }

    /// Flashes it with `record`.
    ///
    /// # Errors
    /// The flash cannot be written.
    pub fn flash_record(&self, record: &Record) -> anyhow::Result<()> {
        let mut slot = [0; SLOT_LEN];
        let len = storage::image(record, &mut slot);
        let mut flash = vec![0xff; 2 * SECTOR];
        flash[..len].copy_from_slice(&slot[..len]);
        self.set_flash(&flash)
    }

    /// Time on the board goes by instructions, so that they can be counted.
    #[must_use]
    pub fn counting(mut self) -> Self {
        self.counting = true;
        self
    }

    fn flash_file(&self) -> PathBuf {
        self.dir.path().join("flash.bin")
    }

    /// What is in the flash.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn flash(&self) -> anyhow::Result<Vec<u8>> {
        Ok(fs::read(self.flash_file())?)
    }

    /// Puts something else into the flash.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn set_flash(&self, bytes: &[u8]) -> anyhow::Result<()> {
        Ok(fs::write(self.flash_file(), bytes)?)
    }

    /// The record that the board would find now.
    ///
    /// # Errors
    /// There is none.
    pub fn record(&self) -> anyhow::Result<Record> {
        let flash = self.flash()?;
        let slots = flash.chunks(SECTOR).map(|sector| sector.get(..SLOT_LEN).unwrap_or(sector).to_vec());
        let mut slots = device_client::Slots::new(Still(slots.collect()));
        slots.load().ok().flatten().context("no record in the flash")
    }

    /// Power on.
    ///
    /// # Errors
    /// QEMU cannot be started.
    pub fn switch_on(&mut self) -> anyhow::Result<()> {
        self.runs += 1;
        let mut qemu = qemu(&self.program, self.dir.path());
        qemu.args(["-serial", "stdio", "-nic", "user,id=net,model=open_eth", "-object"])
            .arg(format!("filter-dump,id=wire,netdev=net,file=wire{}.pcap", self.runs));
        if self.counting {
            qemu.args(["-icount", "shift=3,sleep=on"]);
        }
        let mut process =
            qemu.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("start qemu-system-xtensa")?;
        let input = process.stdin.take().context("no console")?;
        let output = BufReader::new(process.stdout.take().context("no console")?).lines();
        self.running = Some(Running { process, input, output, heard: Vec::new() });
        Ok(())
    }

    /// Power off, at once.
    ///
    /// # Errors
    /// QEMU does not die.
    pub async fn cut_power(&mut self) -> anyhow::Result<()> {
        if let Some(mut running) = self.running.take() {
            running.process.kill().await?;
        }
        Ok(())
    }

    fn running(&mut self) -> anyhow::Result<&mut Running> {
        self.running.as_mut().context("the board has no power")
    }

    /// Types a line.
    ///
    /// # Errors
    /// The board is off.
    pub async fn say(&mut self, line: &str) -> anyhow::Result<()> {
        self.running()?.input.write_all(format!("{line}\n").as_bytes()).await.context("type")
    }

    /// A short press on the button.
    ///
    /// # Errors
    /// The board is off.
    pub async fn press(&mut self) -> anyhow::Result<()> {
        self.say("down").await?;
        self.say("clock 100").await?;
        self.say("up").await
    }

    /// A long press on the button.
    ///
    /// # Errors
    /// The board is off.
    pub async fn hold(&mut self) -> anyhow::Result<()> {
        self.say("down").await?;
        self.say("clock 6000").await?;
        self.say("up").await
    }

    /// Waits for a line that begins so, and gives what follows.
    ///
    /// # Errors
    /// The board ends, or it does not come in time; the error shows what came instead.
    pub async fn hear(&mut self, beginning: &str) -> anyhow::Result<String> {
        let running = self.running()?;
        let listen = async {
            loop {
                let line = running.output.next_line().await?.context("the board has ended")?;
                running.heard.push(line.clone());
                if let Some(rest) = line.strip_prefix(beginning) {
                    return Ok(rest.trim().to_owned());
                }
                ensure!(!line.starts_with("trap"), "{line}");
            }
        };
        match tokio::time::timeout(PATIENCE, listen).await {
            Ok(Ok(rest)) => Ok(rest),
            Ok(Err(error)) => bail!("waiting for `{beginning}`: {error:#}; heard {:?}", running.heard),
            Err(_) => bail!("`{beginning}` does not come; heard {:?}", running.heard),
        }
    }

    /// Everything that was said since the power came.
    #[must_use]
    pub fn heard(&self) -> &[String] {
        self.running.as_ref().map_or(&[], |running| &running.heard)
    }

    /// Asks for the counters.
    ///
    /// # Errors
    /// As [`Board::hear`].
    pub async fn counters(&mut self) -> anyhow::Result<Counters> {
        self.say("stat").await?;
        Counters::read(&self.hear("stat ").await?)
    }

    /// Waits until the firmware ends, and gives its code.
    ///
    /// # Errors
    /// It does not end in time.
    pub async fn ended(&mut self) -> anyhow::Result<i32> {
        let mut running = self.running.take().context("the board has no power")?;
        let ended = tokio::time::timeout(PATIENCE, running.process.wait()).await;
        ended.context("the firmware does not end")??.code().context("QEMU was killed")
    }

    /// The TCP packets of the last time that the power was on.
    ///
    /// # Errors
    /// The recording cannot be read.
    pub fn wire(&self) -> anyhow::Result<Vec<crate::wire::Segment>> {
        crate::wire::read(&self.dir.path().join(format!("wire{}.pcap", self.runs)))
    }
}

/// What the board counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counters {
    /// Milliseconds since the power came.
    pub ms: u64,
    /// Cycles of the board's clock in which the processor worked.
    pub busy: u64,
    /// Bytes of memory that were never used.
    pub untouched: u64,
}

impl Counters {
    /// Reads the line that the board says after `stat `.
    ///
    /// # Errors
    /// A counter is missing.
    pub fn read(line: &str) -> anyhow::Result<Self> {
        let number = |name: &str| {
            line.split(' ')
                .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=')?.parse().ok())
                .with_context(|| format!("no `{name}` in `{line}`"))
        };
        Ok(Self { ms: number("ms")?, busy: number("busy")?, untouched: number("untouched")? })
    }

    /// Instructions that the processor worked, if the board is [`Board::counting`]: 8 ns each, 25 ns a cycle.
    #[must_use]
    pub fn instructions(&self) -> u64 {
        self.busy * 25 / 8
    }
}

/// Flash that is only read.
struct Still(Vec<Vec<u8>>);

impl device_client::Flash for Still {
    type Error = ();

    fn read(&mut self, slot: usize, out: &mut [u8; SLOT_LEN]) -> Result<usize, ()> {
        let held = self.0.get(slot).ok_or(())?;
        out[..held.len()].copy_from_slice(held);
        Ok(held.len())
    }

    fn write(&mut self, _: usize, _: &[u8]) -> Result<(), ()> {
        Err(())
    }
}

//! `cargo xtask firmware`: builds the firmware, looks at its instructions, makes the static library and the flash image, plays the
//! life of a device on an emulated LX106, and ends with sizes and budgets.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};

use crate::step::{Run, cargo, root};
use crate::tools;

/// The folder of the firmware's workspace.
const WORKSPACE: &str = "firmware-esp8266";

/// What Debian's packages bring; a compiler of this version, with its sources, anywhere else does too.
const COMPILER: &str = "/usr/bin/cargo";

/// The irom window that the linker script maps, in bytes.
const IROM: u64 = 0xE_FFF0;
/// RAM for data and stack, in bytes.
const DRAM: u64 = 80 * 1024;

/// Budgets: bytes of program memory and of RAM that must be left.
const IROM_LEFT: u64 = 800_000;
const RAM_LEFT: u64 = 40_000;

/// esptool as it is on PyPI.
const ESPTOOL: &str = "esptool==4.8.1";

/// Instructions that the LX106 has. No windows, no loops, no division, no floating point, no compare-and-swap.
const INSTRUCTIONS: &[&str] = &[
    "abs", "add", "add.n", "addi", "addi.n", "addmi", "addx2", "addx4", "addx8", "and", "ball", "bany",
    "bbc", "bbci", "bbs", "bbsi", "beq", "beqi", "beqz", "beqz.n", "bge", "bgei", "bgeu", "bgeui", "bgez",
    "blt", "blti", "bltu", "bltui", "bltz", "bnall", "bne", "bnei", "bnez", "bnez.n", "bnone", "break",
    "break.n", "call0", "callx0", "dsync", "esync", "extui", "extw", "ill", "ill.n", "isync", "j", "jx",
    "l16si", "l16ui", "l32i", "l32i.n", "l32r", "l8ui", "memw", "mov", "mov.n", "movi", "movi.n", "moveqz",
    "movgez", "movltz", "movnez", "mul16s", "mul16u", "mull", "neg", "nop", "nop.n", "nsa", "nsau", "or",
    "ret", "ret.n", "rfe", "rfi", "rsil", "rsync", "s16i", "s32i", "s32i.n", "s8i", "simcall", "sll", "slli",
    "sra", "srai", "src", "srl", "srli", "ssa8l", "ssai", "ssl", "ssr", "sub", "subx2", "subx4", "subx8",
    "syscall", "waiti", "xor",
];

/// Where the firmware is built, below `target`, so that the two compilers do not build over each other.
fn built() -> PathBuf {
    root().join("target/firmware/xtensa-lx106-none-elf/release")
}

/// Builds and checks everything. With `energy`, also measures against plain MQTT, so many runs each.
///
/// # Errors
/// Whatever does not build, run, or keep its budget.
pub(crate) fn firmware(energy: Option<u32>) -> anyhow::Result<()> {
    build()?;
    let folder = built();
    for program in ["thermostat", "duty", "plain", "arithmetic"] {
        instructions(&folder.join(program))?;
    }
    archive()?;
    image(&folder.join("thermostat"), &folder.join("thermostat.bin"))?;
    sketch()?;
    let measured = folder.join("measured");
    // What an earlier run measured says nothing about this one.
    if measured.exists() {
        fs::remove_file(&measured)?;
    }
    play(&folder, &measured, energy)?;
    budgets(&folder, &measured)
}

fn build() -> anyhow::Result<()> {
    patch()?;
    let programs: &[&str] = &["--package", "board", "--features", "arithmetic", "--bins"];
    for what in [programs, &["--package", "oauthing"]] {
        Run::new(COMPILER, &[&["build", "--release", "--locked"], what].concat())
            .dir(WORKSPACE)
            // The search path decides which rustc that cargo takes.
            .env("PATH", "/usr/bin:/bin")
            .env("RUSTC_BOOTSTRAP", "1")
            .without("RUSTUP_TOOLCHAIN")
            .without("CARGO")
            .without("RUSTC")
            .go()?;
    }
    Ok(())
}

/// The crate that the firmware has with changes of its own, and where the firmware's workspace expects it.
const PATCHED: (&str, &str, &str) = ("p256", "0.13.2", "target/patched/p256");

/// Makes that crate: the published source, which cargo has fetched and checked for `device-link`, and our patch.
fn patch() -> anyhow::Result<()> {
    let (name, version, place) = PATCHED;
    let metadata = Run::new(cargo(), &["metadata", "--locked", "--format-version", "1"]).output()?;
    let metadata: serde_json::Value = serde_json::from_str(&metadata)?;
    let manifest = metadata["packages"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|package| package["name"] == name && package["version"] == version)
        .and_then(|package| package["manifest_path"].as_str())
        .with_context(|| format!("device-link does not use {name} {version} any more"))?;
    let published = Path::new(manifest).parent().context("a manifest without a folder")?;
    let changes = root().join(WORKSPACE).join(format!("patches/{name}-{version}.patch"));
    // Made anew only if something is new, so that nothing is compiled again for nothing.
    let place = root().join(place);
    let stamp = place.join("changes.patch");
    let wanted = fs::read(&changes).with_context(|| format!("read {}", changes.display()))?;
    if fs::read(&stamp).is_ok_and(|applied| applied == wanted) {
        return Ok(());
    }
    if place.exists() {
        fs::remove_dir_all(&place)?;
    }
    copy(published, &place)?;
    let text = |path: &Path| path.to_str().map(str::to_owned).context("the workspace's path is no UTF-8");
    let arguments = ["--strip=1", "--quiet", "--fuzz=0", "-d", &text(&place)?, "-i", &text(&changes)?];
    Run::new("patch", &arguments).go()?;
    Ok(fs::write(stamp, wanted)?)
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// Whether a program holds only instructions that the chip has.
fn instructions(program: &Path) -> anyhow::Result<()> {
    let shown = program.to_str().context("the workspace's path is no UTF-8")?;
    let listing = Run::new("xtensa-lx106-elf-objdump", &["-d", shown]).output()?;
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for line in listing.lines() {
        let Some(text) = line.split('\t').nth(2) else { continue };
        // Literals lie between the code.
        let name = text.split(' ').next().unwrap_or_default().trim();
        if !name.is_empty() && !name.starts_with('.') {
            *seen.entry(name).or_default() += 1;
        }
    }
    let count: usize = seen.values().sum();
    ensure!(count > 5_000, "{shown}: {count} instructions; the disassembler sees too little");
    let foreign: Vec<_> = seen.keys().filter(|name| !is_known(name)).collect();
    ensure!(foreign.is_empty(), "{shown} has instructions that the LX106 lacks: {foreign:?}");
    eprintln!("{}: {count} instructions, {} kinds, all of the LX106", program.display(), seen.len());
    Ok(())
}

fn is_known(name: &str) -> bool {
    // Special registers: all that are named here are the chip's.
    let special = ["rsr.", "wsr.", "xsr."].iter().find_map(|kind| name.strip_prefix(kind));
    match special {
        Some(register) => [
            "sar",
            "ps",
            "vecbase",
            "intenable",
            "interrupt",
            "ccount",
            "ccompare0",
            "epc1",
            "excsave1",
            "exccause",
            "excvaddr",
        ]
        .contains(&register),
        None => INSTRUCTIONS.contains(&name),
    }
}

/// `liboauthing.a`, and the shell in C that is linked with it.
fn archive() -> anyhow::Result<()> {
    let folder = built();
    let text = |path: &Path| path.to_str().map(str::to_owned).context("the workspace's path is no UTF-8");
    let (deps, library, shell) =
        (text(&folder.join("deps"))?, text(&folder.join("liboauthing.a"))?, text(&folder.join("shell"))?);
    Run::new(root().join(WORKSPACE).join("linker/make-archive"), &[&deps, &library]).go()?;
    // The header has to be C for strict compilers, and C++.
    let header = ["-Wall", "-Wextra", "-Werror", "-Icapi/include", "-fsyntax-only"];
    Run::new(
        "xtensa-lx106-elf-gcc",
        &[&header[..], &["-std=c99", "-pedantic", "-x", "c", "capi/include/oauthing.h"]].concat(),
    )
    .dir(WORKSPACE)
    .go()?;
    Run::new(
        "xtensa-lx106-elf-gcc",
        &[
            "-Os",
            "-std=c11",
            "-Wall",
            "-Wextra",
            "-Werror",
            "-mlongcalls",
            "-mtext-section-literals",
            "-ffunction-sections",
            "--specs=/usr/lib/xtensa-lx106-elf/picolibc.specs",
            "-nostartfiles",
            "-Wl,--gc-sections",
            "-Wl,--no-warn-execstack",
            "-Tesp8266.x",
            "-Icapi/include",
            "board/src/start.S",
            "capi/tests/shell.c",
            &library,
            "-o",
            &shell,
        ],
    )
    .dir(WORKSPACE)
    .go()
}

/// The example for the Arduino core: it compiles as C++ for the chip, against the declarations of the core that it uses, and
/// calls what the library has.
fn sketch() -> anyhow::Result<()> {
    let object = built().join("thermostat-sketch.o");
    let object = object.to_str().context("the workspace's path is no UTF-8")?;
    let example = "capi/example/Thermostat/Thermostat.ino";
    let flags = [
        "-c",
        "-x",
        "c++",
        "-std=gnu++17",
        "-Os",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-fno-exceptions",
        "-fno-rtti",
    ];
    let places = [
        "-mlongcalls",
        "--specs=/usr/lib/xtensa-lx106-elf/picolibc.specs",
        "-Icapi/include",
        "-Icapi/tests/arduino",
    ];
    let core = ["-include", "Arduino.h", example, "-o", object];
    Run::new("xtensa-lx106-elf-g++", &[&flags[..], &places, &core].concat()).dir(WORKSPACE).go()?;
    let symbols = Run::new("xtensa-lx106-elf-nm", &[object]).output()?;
    for called in ["oauthing_run", "oauthing_blink"] {
        let calls = symbols.lines().any(|line| line.trim() == format!("U {called}"));
        ensure!(calls, "the example does not call {called}: {symbols}");
    }
    Ok(())
}

/// A flash image of the firmware, as the chip's boot loader takes it: what is loaded into memory, and what is run from flash. Both paths
/// begin with `image`.
///
/// # Errors
/// esptool cannot be had, or does not find its own image valid.
pub(crate) fn image(program: &Path, image: &Path) -> anyhow::Result<[PathBuf; 2]> {
    let python = tools::python_with("esptool", ESPTOOL, "esptool")?;
    let absolute = |path: &Path| -> anyhow::Result<String> {
        let path = std::path::absolute(path)?;
        path.to_str().map(str::to_owned).context("a path that is no UTF-8")
    };
    let (program, image) = (absolute(program)?, absolute(image)?);
    let tool = ["-m", "esptool", "--chip", "esp8266"];
    Run::new(
        &python,
        &[&tool[..], &["elf2image", "--version", "1", "-o", &format!("{image}-"), &program]].concat(),
    )
    .output()?;
    let parts = ["0x00000", "0x10010"].map(|at| format!("{image}-{at}.bin"));
    let said = Run::new(&python, &[&tool[..], &["image_info", &parts[0]]].concat()).output()?;
    ensure!(
        said.contains("Checksum") && said.contains("(valid)"),
        "esptool does not find its own image valid: {said}"
    );
    // What is run from flash has no checksum: it has to be the program's section, byte for byte.
    let section = format!("{image}-irom");
    let copy = ["-O", "binary", "--only-section=.irom.text", &program, &section];
    Run::new("xtensa-lx106-elf-objcopy", &copy).go()?;
    let (wanted, written) = (fs::read(&section)?, fs::read(&parts[1])?);
    fs::remove_file(&section)?;
    ensure!(
        !wanted.is_empty() && written.starts_with(&wanted) && written.len() < wanted.len() + 16,
        "{} is not the program",
        parts[1]
    );
    Ok(parts.map(PathBuf::from))
}

/// Plays everything that `e2e/tests/firmware` says.
fn play(folder: &Path, measured: &Path, energy: Option<u32>) -> anyhow::Result<()> {
    Run::new(cargo(), &["build", "--locked", "--quiet", "--workspace", "--bin", "pcm"]).go()?;
    let test =
        ["test", "--locked", "--workspace", "--test", "firmware", "--", "--nocapture", "--test-threads=3"];
    let mut played = Run::new(cargo(), &test);
    if let Some(runs) = energy {
        played = played.env("OAUTHING_ENERGY_RUNS", runs.to_string());
    }
    played
        .env("OAUTHING_FIRMWARE", folder)
        .env("OAUTHING_XTASK", std::env::current_exe().context("the path of this program")?)
        .env("OAUTHING_MEASURED", measured)
        .env("OAUTHING_ALL", "1")
        .go()
}

/// The table at the end.
fn budgets(folder: &Path, measured: &Path) -> anyhow::Result<()> {
    let measured = fs::read_to_string(measured).context("the emulator's runs measured nothing")?;
    let untouched: Vec<u64> =
        measured.lines().filter_map(|line| line.strip_prefix("untouched=")?.parse().ok()).collect();
    let ram_left = *untouched.iter().min().context("the emulator's runs measured no memory")?;
    println!("\n{:<22}{:>10}{:>10}{:>10}{:>12}", "bytes", "irom", "rodata", "data+bss", "irom left");
    for program in ["thermostat", "plain", "shell"] {
        let sizes = sizes(&folder.join(program))?;
        println!(
            "{program:<22}{:>10}{:>10}{:>10}{:>12}",
            sizes.irom,
            sizes.rodata,
            sizes.data,
            IROM.saturating_sub(sizes.irom)
        );
    }
    let thermostat = sizes(&folder.join("thermostat"))?;
    let irom_left = IROM.saturating_sub(thermostat.irom);
    println!("program memory left     {irom_left:>10} of {IROM}, at least {IROM_LEFT}");
    println!("memory never touched    {ram_left:>10} of {DRAM}, at least {RAM_LEFT}");
    if irom_left < IROM_LEFT || ram_left < RAM_LEFT {
        bail!("beyond the budget");
    }
    Ok(())
}

struct Sizes {
    irom: u64,
    rodata: u64,
    data: u64,
}

fn sizes(program: &Path) -> anyhow::Result<Sizes> {
    let shown = program.to_str().context("the workspace's path is no UTF-8")?;
    let table = Run::new("xtensa-lx106-elf-size", &["-A", shown]).output()?;
    let section = |name: &str| -> u64 {
        table
            .lines()
            .find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok())
            .unwrap_or(0)
    };
    let irom = section(".irom.text");
    ensure!(irom > 0, "{shown} has no program: {table}");
    Ok(Sizes { irom, rodata: section(".rodata"), data: section(".data ") + section(".bss") })
}

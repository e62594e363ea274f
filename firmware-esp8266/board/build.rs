//! Assembles what is written in assembly and hands it and the linker script to the linker.

use std::process::Command;
use std::env;
use std::path::{Path, PathBuf};

fn main() {
    let own = PathBuf::from(env::var("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let out = PathBuf::from(env::var("OUT_DIR").expect("cargo sets it"));
    for source in ["src/start.S", "../runtime/multiply.S", "../runtime/field.S", "../runtime/copy.S"] {
        let name = Path::new(source).file_name().expect("a file");
        let object = out.join(name).with_extension("o");
        let assembled = Command::new("xtensa-lx106-elf-gcc")
            .args(["-c", "-mtext-section-literals", "-mlongcalls", source, "-o"])
            .arg(&object)
            .status();
        assert!(
            assembled.is_ok_and(|status| status.success()),
            "xtensa-lx106-elf-gcc cannot assemble {source}"
        );
        println!("cargo:rustc-link-arg-bins={}", object.display());
        println!("cargo:rerun-if-changed={source}");
    }
    let script = own.join("../esp8266.x");
    for argument in ["-nostartfiles", "-nostdlib", "-Wl,--gc-sections"] {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
    println!("cargo:rustc-link-arg-bins=-T{}", script.display());
    println!("cargo:rerun-if-changed={}", script.display());
}

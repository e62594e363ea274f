//! Assembles what is written in assembly and hands it and the linker script to the linker.

use std::process::Command;
use std::{env, path::PathBuf};

fn main() {
    let own = PathBuf::from(env::var("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let out = PathBuf::from(env::var("OUT_DIR").expect("cargo sets it"));
    for (source, object) in [("src/start.S", "start.o"), ("../runtime/multiply.S", "multiply.o")] {
        let object = out.join(object);
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

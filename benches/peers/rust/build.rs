//! Tells the programs which versions of candle and burn they were built with, as Cargo.lock has them.

fn main() {
    println!("cargo::rerun-if-changed=Cargo.lock");
    let lock = std::fs::read_to_string("Cargo.lock").expect("Cargo.lock");
    for (variable, name) in [("CANDLE_VERSION", "candle-core"), ("BURN_VERSION", "burn")] {
        let after = lock.split_once(&format!("name = \"{name}\"\nversion = \"")).expect("a dependency").1;
        let version = after.split('"').next().expect("a version");
        println!("cargo::rustc-env={variable}={version}");
    }
}

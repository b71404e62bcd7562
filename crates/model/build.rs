//! Compiles `src/raw/torch.cpp` against the headers of the libtorch that tch is built with.

fn main() {
    println!("cargo:rerun-if-changed=src/raw/torch.cpp");
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    println!("cargo:rerun-if-env-changed=LIBTORCH_INCLUDE");
    let root = ["LIBTORCH_INCLUDE", "LIBTORCH"].iter().find_map(|name| std::env::var(name).ok());
    let root = root.expect("LIBTORCH names the directory of libtorch; `make setup` writes it into .cargo/config.toml");
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        // Wrappers gain nothing from more.
        .opt_level(1)
        .warnings(false)
        .include(format!("{root}/include"))
        .file("src/raw/torch.cpp")
        .compile("sirocco_torch");
}

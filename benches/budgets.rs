//! Everything that `BENCH.md` gives a budget for: one line each, and `target/bench.json`.
//!
//! `cargo bench --bench budgets -- F T` measures only what is named. See `benches/README.md`.
#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "a program for the terminal; a bench stops at the first surprise"
)]

mod allocations;
mod broker;
mod by_hand;
mod checkpoints;
mod daemon;
mod end_to_end;
mod engine;
mod events;
mod figure;
mod folder;
mod footprint;
mod growth;
mod join;
mod later;
mod log;
mod patterns;
mod pipeline;
mod segments;
#[path = "../tests/common/wait.rs"]
mod wait;

#[global_allocator]
static ALLOCATOR: allocations::Counted = allocations::Counted;

fn main() -> std::io::Result<()> {
    // Cargo adds `--bench`.
    let wanted: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with("--"))
        .collect();
    let figures = [
        engine::FIGURES,
        join::FIGURES,
        growth::FIGURES,
        patterns::FIGURES,
        log::FIGURES,
        pipeline::FIGURES,
        checkpoints::FIGURES,
        end_to_end::FIGURES,
        footprint::FIGURES,
        later::FIGURES,
    ];
    let lines = figure::run(&figures, &wanted);
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/target/bench.json");
    std::fs::write(path, serde_json::to_vec_pretty(&lines)?)?;
    println!("written to {path}");
    Ok(())
}

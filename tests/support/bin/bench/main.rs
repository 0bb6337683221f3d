//! `make bench`: what a packet costs, how long a handshake and a start take, what many links at once
//! cost, and how much delay the link adds, beside the machine's own hiccups and a stock RTP pipeline
//! in the same run; and how all that compares with other programs over the same bad path.
//!
//! `bench [--short] [--only=TEXT] [PART …]`: all parts, or those named; of the comparison only programs
//! whose name has the text. Prints Markdown; `docs/performance.md`
//! says what the figures mean.

mod child;
mod code;
mod compare;
mod cost;
mod latency;
mod scale;
mod start;
mod stats;
mod timer;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::process::ExitCode;

thread_local! {
    /// Allocations of this thread.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// Counts, and leaves the work to the system's allocator.
struct Counting;

// SAFETY: every call goes on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // Not there any more while the thread ends.
        let _ = ALLOCATIONS.try_with(|n| n.set(n.get() + 1));
        // SAFETY: the caller's promise is ours.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is ours.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How often this thread has allocated.
fn allocations() -> u64 {
    ALLOCATIONS.with(Cell::get)
}

const PARTS: [&str; 8] =
    ["cost", "start", "return", "fan-out", "callers", "latency", "peers", "compare"];

fn main() -> ExitCode {
    match run(std::env::args().skip(1).collect()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("bench: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(mut arguments: Vec<String>) -> anyhow::Result<()> {
    if arguments == [child::ARGUMENT] {
        gst::init()?;
        gstvelin::plugin_register_static()?;
        return child::run();
    }
    if let [compare::ARGUMENT, rest @ ..] =
        &arguments.iter().map(String::as_str).collect::<Vec<_>>()[..]
    {
        gst::init()?;
        gstvelin::plugin_register_static()?;
        return compare::help(rest);
    }
    let short = arguments.iter().any(|a| a == "--short");
    let only = arguments.iter().find_map(|a| a.strip_prefix("--only=")).map(str::to_owned);
    arguments.retain(|a| a != "--short" && !a.starts_with("--only="));
    if let Some(unknown) = arguments.iter().find(|a| !PARTS.contains(&a.as_str())) {
        anyhow::bail!("{unknown:?} is no part; choose from {PARTS:?}, --short and --only=TEXT");
    }
    let wanted = |part: &str| arguments.is_empty() || arguments.iter().any(|a| a == part);
    if cfg!(debug_assertions) {
        eprintln!("bench: this is a debug build; `make bench` builds an optimised one");
    }
    gst::init()?;
    gstvelin::plugin_register_static()?;
    if wanted("cost") {
        cost::run(short);
    }
    if wanted("start") {
        start::run(if short { 10 } else { 200 })?;
    }
    if wanted("return") {
        scale::comeback(short)?;
    }
    if wanted("fan-out") {
        scale::fan_out(short)?;
    }
    if wanted("callers") {
        scale::callers(short)?;
    }
    if wanted("latency") || wanted("peers") {
        latency::run(short, wanted("latency"), wanted("peers"))?;
    }
    if wanted("compare") {
        compare::run(short, only.as_deref())?;
    }
    Ok(())
}

//! What the streaming threads of both elements leave alone once sound flows: memory, and locks that
//! somebody else holds. Alone in its process, for it counts every allocation there, GStreamer's
//! included.
#![cfg(all(target_os = "linux", target_env = "gnu"))]

#[path = "elements/support.rs"]
mod support;

use std::cell::Cell;
use std::ffi::c_void;
use std::fs;
use std::process::Command;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gst::prelude::*;
use support::{Device, FLOAT_STEREO, Line, Receiver, Sender, count, init, rms, until};

thread_local! {
    /// Allocations of this thread.
    static CALLS: Cell<u64> = const { Cell::new(0) };
}

unsafe extern "C" {
    fn __libc_malloc(size: usize) -> *mut c_void;
    fn __libc_calloc(count: usize, size: usize) -> *mut c_void;
    fn __libc_realloc(pointer: *mut c_void, size: usize) -> *mut c_void;
    fn __libc_memalign(alignment: usize, size: usize) -> *mut c_void;
}

fn note() {
    // Not there any more while the thread ends.
    let _ = CALLS.try_with(|calls| calls.set(calls.get() + 1));
}

// SAFETY: these take the place of the C library's own in this program, GStreamer's calls included,
// and go on to them unchanged; so memory may be freed by the C library's `free`.
#[unsafe(no_mangle)]
unsafe extern "C" fn malloc(size: usize) -> *mut c_void {
    note();
    // SAFETY: the caller's promise is ours.
    unsafe { __libc_malloc(size) }
}

// SAFETY: as above.
#[unsafe(no_mangle)]
unsafe extern "C" fn calloc(n: usize, size: usize) -> *mut c_void {
    note();
    // SAFETY: the caller's promise is ours.
    unsafe { __libc_calloc(n, size) }
}

// SAFETY: as above.
#[unsafe(no_mangle)]
unsafe extern "C" fn realloc(pointer: *mut c_void, size: usize) -> *mut c_void {
    note();
    // SAFETY: the caller's promise is ours.
    unsafe { __libc_realloc(pointer, size) }
}

// SAFETY: as above.
#[unsafe(no_mangle)]
unsafe extern "C" fn aligned_alloc(alignment: usize, size: usize) -> *mut c_void {
    note();
    // SAFETY: the caller's promise is ours.
    unsafe { __libc_memalign(alignment, size) }
}

// SAFETY: as above.
#[unsafe(no_mangle)]
unsafe extern "C" fn posix_memalign(to: *mut *mut c_void, alignment: usize, size: usize) -> i32 {
    note();
    // SAFETY: the caller's promises are ours.
    let pointer = unsafe { __libc_memalign(alignment, size) };
    if pointer.is_null() {
        return 12; // ENOMEM
    }
    // SAFETY: the caller gave a place to write to.
    unsafe { to.write(pointer) };
    0
}

/// What a thread has done so far.
#[derive(Clone, Copy, Debug)]
struct Account {
    allocations: u64,
    /// Times that it gave up the processor by itself.
    naps: u64,
}

impl Account {
    /// Of the thread that asks. What that takes itself is not in the next one.
    fn now() -> Self {
        let allocations = CALLS.with(Cell::get);
        let status = fs::read_to_string("/proc/thread-self/status").expect("/proc");
        let line = status.lines().find(|l| l.starts_with("voluntary")).expect("a count");
        let naps = line.split_whitespace().nth(1).expect("a number").parse().expect("a number");
        drop(status);
        CALLS.with(|calls| calls.set(allocations));
        Self { allocations, naps }
    }
}

/// How many buffers a thread has between two looks.
const LOOK: u64 = 500;

/// The least that two looks one after the other differ by: once is enough to show what it takes.
fn least(accounts: &[Account], of: impl Fn(&Account) -> u64) -> u64 {
    accounts.windows(2).map(|w| of(&w[1]) - of(&w[0])).min().expect("two looks")
}

/// Looks after every [`LOOK`]th buffer of the thread that pushes through `pad`.
fn watch(pad: &gst::Pad) -> Arc<Mutex<Vec<Account>>> {
    let accounts = Arc::new(Mutex::new(Vec::with_capacity(100)));
    let (into, buffers) = (accounts.clone(), AtomicU64::new(0));
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
        if buffers.fetch_add(1, Ordering::Relaxed) % LOOK == 0 {
            let account = Account::now();
            into.lock().expect("no panic").push(account);
        }
        gst::PadProbeReturn::Ok
    })
    .expect("a probe");
    accounts
}

/// Waits until there are `n` accounts.
fn wait(accounts: &Mutex<Vec<Account>>, n: usize) {
    until("buffers", || (accounts.lock().expect("no panic").len() >= n).then_some(()));
}

/// Runs `test` of this program in a process of its own, where GLib takes each piece of memory from
/// the C library, or says that this is that process.
fn is_apart(test: &str) -> bool {
    if std::env::var_os("G_SLICE").is_some() {
        return true;
    }
    let status = Command::new(std::env::current_exe().expect("a path"))
        .args(["--exact", test, "--nocapture"])
        .env("G_SLICE", "always-malloc")
        .status()
        .expect("this program runs");
    assert!(status.success(), "{status}");
    false
}

#[test]
fn the_allocations_of_gstreamer_are_counted() {
    if !is_apart("the_allocations_of_gstreamer_are_counted") {
        return;
    }
    init();
    let before = CALLS.with(Cell::get);
    drop(std::hint::black_box(gst::Buffer::with_size(10)));
    drop(std::hint::black_box(gst::Structure::new_empty("counted")));
    assert!(CALLS.with(Cell::get) >= before + 3, "{}", CALLS.with(Cell::get) - before);
}

#[test]
fn the_streaming_thread_of_velinsrc_allocates_nothing_and_waits_for_nobody() {
    if !is_apart("the_streaming_thread_of_velinsrc_allocates_nothing_and_waits_for_nobody") {
        return;
    }
    let device = Device::new();
    let line = Line::parse(&format!(
        "velinsrc name=src port=0 audio-port=0 {} ! {FLOAT_STEREO} ! fakesink sync=false",
        device.files()
    ))
    .play();
    line.messages.element("listening");
    let src = line.element("src");
    let sender = Sender::start(&device, src.property("current-port"), 440);
    let received = || count(&src.property::<gst::Structure>("stats"), "received");
    until("sound", || (received() > 48_000).then_some(()));
    let accounts = watch(&src.static_pad("src").expect("a pad"));
    wait(&accounts, 7);
    let accounts = accounts.lock().expect("no panic").clone();
    assert_eq!(least(&accounts, |a| a.allocations), 0, "{accounts:?}");
    // One wait for each period and hardly another: a lock that somebody holds would be one.
    assert!(least(&accounts, |a| a.naps) <= LOOK + LOOK / 100, "{accounts:?}");
    sender.messages().no_error();
}

#[test]
fn the_streaming_thread_of_velinsink_allocates_nothing_and_waits_for_nobody() {
    if !is_apart("the_streaming_thread_of_velinsink_allocates_nothing_and_waits_for_nobody") {
        return;
    }
    let device = Device::new();
    let receiver = Receiver::playing(&device, "", FLOAT_STEREO);
    let sink = gst::ElementFactory::make("velinsink")
        .property("port", receiver.port())
        .property("identity-file", device.identity_file())
        .property("trust-file", device.trust_file())
        .property("sync", false)
        .build()
        .expect("the element");
    let caps = format!("{FLOAT_STEREO},layout=interleaved");
    let caps = gst::Caps::from_str(&caps).expect("caps");
    sink.set_state(gst::State::Playing).expect("it plays");
    let pad = gst::Pad::new(gst::PadDirection::Src);
    pad.link(&sink.static_pad("sink").expect("a pad")).expect("pads fit");
    pad.set_active(true).expect("it is a pad");
    pad.push_event(gst::event::StreamStart::new("test"));
    pad.push_event(gst::event::Caps::new(&caps));
    let segment = gst::FormattedSegment::<gst::ClockTime>::new();
    pad.push_event(gst::event::Segment::new(&segment));
    // 2.5 ms of something, again and again: no source has to make it.
    let sound: Vec<u8> = (0..240).flat_map(|i| ((i % 120) as f32 / 240.0).to_le_bytes()).collect();
    let buffer = gst::Buffer::from_slice(sound);
    let push = |n: u64| {
        for _ in 0..n {
            pad.push(buffer.clone()).expect("it flows");
            std::thread::sleep(Duration::from_micros(2_500));
        }
        Account::now()
    };
    let streams = || sink.property::<gst::Structure>("stats").get::<String>("session-state");
    until("the stream", || {
        push(10);
        (streams().as_deref() == Ok("streaming")).then_some(())
    });
    receiver.tape.heard("sound", |b| rms(b) > 0.1);
    push(LOOK);
    let accounts: Vec<_> = (0..5).map(|_| push(LOOK)).collect();
    sink.set_state(gst::State::Null).expect("it stops");
    assert_eq!(least(&accounts, |a| a.allocations), 0, "{accounts:?}");
    // One for each sleep of this thread.
    assert!(least(&accounts, |a| a.naps) <= LOOK + LOOK / 100, "{accounts:?}");
}

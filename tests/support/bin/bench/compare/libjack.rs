//! The few functions of libjack that are needed, found when they are: the library comes with JACK, and
//! nothing here needs it to build. (The `jack` crate wants its development files on Linux.)

use std::ffi::{CStr, CString, c_char, c_int, c_ulong, c_void};
use std::mem::transmute;
use std::ptr::null_mut;

use anyhow::{bail, ensure};

unsafe extern "C" {
    fn dlopen(name: *const c_char, flags: c_int) -> *mut c_void;
    fn dlsym(library: *mut c_void, name: *const c_char) -> *mut c_void;
}

/// From dlfcn.h.
const RTLD_NOW: c_int = 2;
/// From jack/types.h: JackNoStartServer.
const NO_START_SERVER: c_int = 1;
/// JackPortIsInput and JackPortIsOutput.
const INPUT: c_ulong = 1;
const OUTPUT: c_ulong = 2;
/// JACK_DEFAULT_AUDIO_TYPE.
const AUDIO: &CStr = c"32 bit float mono audio";

/// What is called for every cycle, with its number of frames.
type Process = unsafe extern "C" fn(u32, *mut c_void) -> c_int;

// The functions' types, as in jack/jack.h.
type Open = unsafe extern "C" fn(*const c_char, c_int, *mut c_int, ...) -> *mut c_void;
type Rate = unsafe extern "C" fn(*mut c_void) -> u32;
type Register = unsafe extern "C" fn(
    *mut c_void,
    *const c_char,
    *const c_char,
    c_ulong,
    c_ulong,
) -> *mut c_void;
type Buffer = unsafe extern "C" fn(*mut c_void, u32) -> *mut c_void;
type OnProcess = unsafe extern "C" fn(*mut c_void, Process, *mut c_void) -> c_int;
type Activate = unsafe extern "C" fn(*mut c_void) -> c_int;
type Find = unsafe extern "C" fn(*mut c_void, *const c_char) -> *mut c_void;
type Connect = unsafe extern "C" fn(*mut c_void, *const c_char, *const c_char) -> c_int;

struct Functions {
    open: Open,
    rate: Rate,
    register: Register,
    buffer: Buffer,
    on_process: OnProcess,
    activate: Activate,
    find: Find,
    connect: Connect,
}

impl Functions {
    fn load() -> anyhow::Result<Self> {
        // SAFETY: a name that ends in zero; libraries of the system run their initialisers.
        let library = unsafe { dlopen(c"libjack.so.0".as_ptr(), RTLD_NOW) };
        ensure!(!library.is_null(), "no libjack.so.0: package libjack-jackd2-0");
        let find = |name: &CStr| {
            // SAFETY: a library that stays loaded, and a name that ends in zero.
            let found = unsafe { dlsym(library, name.as_ptr()) };
            ensure!(!found.is_null(), "libjack has no {name:?}");
            Ok(found)
        };
        // SAFETY: the types are those that jack/jack.h declares for these names.
        unsafe {
            Ok(Self {
                open: transmute::<*mut c_void, Open>(find(c"jack_client_open")?),
                rate: transmute::<*mut c_void, Rate>(find(c"jack_get_sample_rate")?),
                register: transmute::<*mut c_void, Register>(find(c"jack_port_register")?),
                buffer: transmute::<*mut c_void, Buffer>(find(c"jack_port_get_buffer")?),
                on_process: transmute::<*mut c_void, OnProcess>(find(
                    c"jack_set_process_callback",
                )?),
                activate: transmute::<*mut c_void, Activate>(find(c"jack_activate")?),
                find: transmute::<*mut c_void, Find>(find(c"jack_port_by_name")?),
                connect: transmute::<*mut c_void, Connect>(find(c"jack_connect")?),
            })
        }
    }
}

/// What a client does in every cycle, in JACK's thread.
pub(crate) trait Cycle: Send + 'static {
    /// `ports` holds the samples of each port, to be filled (outputs) or read (inputs).
    fn cycle(&mut self, frames: usize, ports: &mut [&mut [f32]]);
}

/// A client of the server that the environment names. It lasts as long as the process.
pub(crate) struct Client {
    functions: &'static Functions,
    client: *mut c_void,
    ports: Vec<*mut c_void>,
}

/// What JACK hands back in every cycle.
struct Handle<C> {
    functions: &'static Functions,
    ports: Vec<*mut c_void>,
    cycle: C,
}

/// As many ports as a client has at most.
const PORTS: usize = 2;

impl Client {
    pub(crate) fn open(name: &str) -> anyhow::Result<Self> {
        let functions: &'static Functions = Box::leak(Box::new(Functions::load()?));
        let name = CString::new(name)?;
        let mut status = 0;
        // SAFETY: a name that ends in zero and a place for the status.
        let client = unsafe { (functions.open)(name.as_ptr(), NO_START_SERVER, &mut status) };
        if client.is_null() {
            bail!("no JACK server (status {status:#x})");
        }
        Ok(Self { functions, client, ports: Vec::with_capacity(PORTS) })
    }

    pub(crate) fn rate(&self) -> u64 {
        // SAFETY: an open client.
        unsafe { (self.functions.rate)(self.client) }.into()
    }

    pub(crate) fn output(&mut self, name: &str) -> anyhow::Result<()> {
        self.register(name, OUTPUT)
    }

    pub(crate) fn input(&mut self, name: &str) -> anyhow::Result<()> {
        self.register(name, INPUT)
    }

    fn register(&mut self, name: &str, flags: c_ulong) -> anyhow::Result<()> {
        ensure!(self.ports.len() < PORTS, "a client here has {PORTS} ports at most");
        let name = CString::new(name)?;
        // SAFETY: an open client, and names that end in zero.
        let port = unsafe {
            (self.functions.register)(self.client, name.as_ptr(), AUDIO.as_ptr(), flags, 0)
        };
        ensure!(!port.is_null(), "JACK gives no port {name:?}");
        self.ports.push(port);
        Ok(())
    }

    /// From now on `cycle` is called.
    pub(crate) fn activate<C: Cycle>(&self, cycle: C) -> anyhow::Result<()> {
        let ports = self.ports.clone();
        let handle = Handle { functions: self.functions, ports, cycle };
        let handle = Box::into_raw(Box::new(handle)).cast();
        // SAFETY: an open client that is not active; the handle is leaked, so it stays valid.
        let set = unsafe { (self.functions.on_process)(self.client, process::<C>, handle) };
        ensure!(set == 0, "JACK takes no callback");
        // SAFETY: the same client.
        let active = unsafe { (self.functions.activate)(self.client) };
        ensure!(active == 0, "JACK does not activate the client");
        Ok(())
    }

    pub(crate) fn has_port(&self, name: &str) -> bool {
        // SAFETY: an open client and a name that ends in zero.
        CString::new(name)
            .is_ok_and(|n| unsafe { !(self.functions.find)(self.client, n.as_ptr()).is_null() })
    }

    pub(crate) fn connect(&self, from: &str, to: &str) -> anyhow::Result<()> {
        let [a, b] = [CString::new(from)?, CString::new(to)?];
        // SAFETY: an open client and names that end in zero.
        let done = unsafe { (self.functions.connect)(self.client, a.as_ptr(), b.as_ptr()) };
        ensure!(done == 0, "JACK does not connect {from} to {to}");
        Ok(())
    }
}

unsafe extern "C" fn process<C: Cycle>(frames: u32, handle: *mut c_void) -> c_int {
    // SAFETY: the handle that `activate` leaked for this type, which only this callback uses.
    let handle = unsafe { &mut *handle.cast::<Handle<C>>() };
    let frames = frames as usize;
    let mut buffers: [*mut f32; PORTS] = [null_mut(); PORTS];
    for (buffer, port) in buffers.iter_mut().zip(&handle.ports) {
        // SAFETY: a registered port, within the cycle.
        *buffer = unsafe { (handle.functions.buffer)(*port, frames as u32) }.cast();
    }
    let mut slices: [&mut [f32]; PORTS] = [&mut [], &mut []];
    for (slice, buffer) in slices.iter_mut().zip(buffers).filter(|(_, b)| !b.is_null()) {
        // SAFETY: JACK gives a buffer of so many floats for each port, one per port.
        *slice = unsafe { std::slice::from_raw_parts_mut(buffer, frames) };
    }
    let count = handle.ports.len();
    handle.cycle.cycle(frames, &mut slices[..count]);
    0
}
